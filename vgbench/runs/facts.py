"""What a run's log says about the machine, the network and the code."""

from __future__ import annotations

import logging
import platform
import subprocess
from pathlib import Path

import torch

import vgbench
from vgbench.models import Network
from vgbench.models.flops import count_flops
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.runs.settings import Settings, flat
from vgbench.runtime import Runtime

LOG = logging.getLogger("vgbench")


def code_version() -> str:
    """The version, with the commit when the code runs from a git checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed, maybe below somebody's own repository
        return vgbench.__version__
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # there is no git on this machine
        commit = ""
    return f"{vgbench.__version__}+{commit}" if commit else vgbench.__version__


def say_what_runs(settings: Settings, network: Network, runtime: Runtime, folder: Path) -> None:
    """Log where a run is written, on what it runs and which network it is about."""
    LOG.info("run folder: %s", folder)
    LOG.info("machine: %s", machine_line(runtime))
    LOG.info("network: %s", network_line(network, settings.data.resize))
    LOG.debug("options: %s", ", ".join(f"{name}={value}" for name, value in flat(settings).items()))


def machine_line(runtime: Runtime) -> str:
    """One line on the hardware and software that produced the figures."""
    device = torch.cuda.get_device_name() if runtime.device.type == "cuda" else platform.processor() or "CPU"
    precision = str(runtime.amp_dtype).removeprefix("torch.") if runtime.amp_dtype else "float32"
    memory = "channels_last" if runtime.channels_last else "contiguous"
    backend = "" if runtime.backend == "eager" else f", descriptors by {runtime.backend}"
    return f"{device}, {torch.get_num_threads()} threads, {precision}, {memory}, torch {torch.__version__}{backend}"


def network_line(network: Network, size: tuple[int, int]) -> str:
    """One line on what a network is and costs: parameters, FLOPs of one image at `size`, descriptor dimensions."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    of_images = network.of_frames if isinstance(network, SequenceNetwork) else network
    return (
        f"{network.name}, {parameters / 1e6:.2f} M parameters "
        f"({trained / 1e6:.2f} M trained), {count_flops(of_images, size) / 1e9:.2f} GFLOPs an image of "
        f"{size[0]}x{size[1]}, {network.descriptors_dim} descriptor dimensions"
    )
