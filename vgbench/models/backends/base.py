"""What a way to compute descriptors (an inference backend) says of itself and does."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

import torch

from vgbench.errors import UserError
from vgbench.models.network import Infer as Infer
from vgbench.models.network import Network
from vgbench.runtime import Runtime


class InferenceBackend:
    """A way to compute what a network computes; a subclass says which, and `describer` does it.

    Attributes:
        name: what `--inference_backend` calls it.
        packages: modules that it imports and that are not required otherwise.
        install: what is typed to install them.
        devices: types of those that it runs on.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def check(self, device: torch.device) -> None:
        """Raise UserError where it cannot run: a package is missing, or the device is none of its own."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"--inference_backend {self.name}: {' and '.join(missing)} not installed. Expected the packages of "
                f"the extra: python3 -m pip install {self.install}"
            )
        if device.type not in self.devices:
            raise UserError(
                f"--inference_backend {self.name}: does not run on {device.type}. Expected "
                f"{' or '.join(self.devices)}; use --device {self.devices[0]}, or --inference_backend eager"
            )

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        """Return a function from images [B,3,H,W], uint8 or normalised float, to descriptors float32 [B,D].

        The function holds copies of the weights; the network is left as it is.

        Raises:
            UserError: by the function too, at its first batch: the network cannot be expressed, or what comes out is
                further from eager PyTorch's than its tolerance.
        """
        raise NotImplementedError

    def mapper(self, network: Network, runtime: Runtime) -> Infer:
        """Return the same for `Network.local_features`: PyTorch's own, since few backends return pairs of tensors."""
        from vgbench.models.backends.eager import Eager

        return Eager().mapper(network, runtime)
