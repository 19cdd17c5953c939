"""Every way to compute descriptors beside PyTorch's own, and what each says where it cannot."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference
from vgbench.models.backends import cuda_graphs, eager, onnx_runtime, static
from vgbench.models.backends.compiled import CACHE, Compiled
from vgbench.models.backends.openvino import OpenVino
from vgbench.models.network import Network
from vgbench.models.release_kinds import WholeDescriptor
from vgbench.runtime import BACKENDS, Runtime, RuntimeOptions, resolve_runtime

CONVERTING = ["openvino", "onnxruntime"]


def needs(backend: str) -> None:
    for package in BACKENDS.resolve(backend).packages:
        pytest.importorskip(package)


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests() -> None:
    static._graphs.clear()


def pixels(count: int, height: int = 64, width: int = 64) -> Tensor:
    stream = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=stream)


def away(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


class Small(nn.Module):
    out_channels, kind = 4, "vector"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(self.norm(self.conv(images)).relu().mean((2, 3)))
        return found


class Mixing(Small):
    mixes_batch = True

    def forward(self, images: Tensor) -> Tensor:
        own = super().forward(images)
        return own + own.mean(0)


class Drawing(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + torch.rand(1))


class Unknown(Small):
    def forward(self, images: Tensor) -> Tensor:
        return torch.special.modified_bessel_i0(super().forward(images)) + torch.linalg.eigvalsh(images[:, 0, :4, :4])


def small(kind: type[Small] = Small) -> Network:
    return Network(kind(), WholeDescriptor(4), {"backbone": "small", "aggregation": "none"}).eval()


@pytest.mark.parametrize("backend", CONVERTING)
@pytest.mark.parametrize(
    ("backbone", "aggregation", "size"),
    [("resnet18conv4", "gem", 64), ("efficientnet_lite0_s16", "netvlad", 65), ("dinov2_vits14", "gem", 56)],
)
def test_descriptors_are_those_of_pytorch(backbone: str, aggregation: str, size: int, backend: str) -> None:
    needs(backend)
    network = build_network(backbone=backbone, aggregation=aggregation, pretrain="none").eval()
    images = pixels(5, size, size)
    with torch.no_grad():
        expected = network(images)
    found = for_inference(network, Runtime(backend=backend))(images)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    assert away(found, expected) < 1e-4


@pytest.mark.parametrize("backend", [*CONVERTING, "compile"])
def test_any_number_of_images_and_normalised_floats(
    backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    needs(backend)
    monkeypatch.setenv(CACHE, str(tmp_path / "code"))
    network = small()
    run = for_inference(network, Runtime(backend=backend))
    caplog.set_level("INFO")
    for images in (pixels(6, 16, 20), pixels(1, 16, 20), network.normalise(pixels(3, 16, 20))):
        with torch.no_grad():
            expected = network(images)
        assert away(run(images), expected) < 1e-4
    assert "16x20" in caplog.text and " s" in caplog.text  # how long it took
    if backend == "compile":
        assert any((tmp_path / "code").rglob("*.cpp"))


@pytest.mark.parametrize(("kind", "expected"), [(Small, [5, 5, 2]), (Mixing, [12])])
def test_a_cpu_gets_a_batch_in_parts_of_so_many_pixels(
    kind: type[Small], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "CPU_CHUNK_PIXELS", 5 * 16 * 20)
    network, images, counts = small(kind), pixels(12, 16, 20), []
    run = for_inference(network, Runtime())
    monkeypatch.setattr(run, "computed", lambda part: (counts.append(len(part)), type(run).computed(run, part))[1])
    with torch.no_grad():
        assert away(run(images), network(images)) < 1e-4
    assert counts == expected


def test_larger_images_come_in_smaller_parts() -> None:
    assert [eager.cpu_chunk(*size) for size in ((96, 96), (320, 320), (480, 640), (2000, 3000))] == [88, 8, 4, 4]


@pytest.mark.parametrize("backend", CONVERTING)
def test_a_network_that_looks_at_its_batch_gets_it_whole(backend: str) -> None:
    needs(backend)
    network = small(Mixing)
    run = for_inference(network, Runtime(backend=backend))
    for count in (6, 5):
        images = pixels(count, 16, 20)
        with torch.no_grad():
            assert away(run(images), network(images)) < 1e-4


@pytest.mark.parametrize("backend", CONVERTING)
def test_a_graph_is_made_once_for_weights_and_shape(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    needs(backend)
    caplog.set_level("INFO")
    network, images = small(), pixels(4, 16, 20)
    first = for_inference(network, Runtime(backend=backend))(images)
    assert torch.equal(for_inference(network, Runtime(backend=backend))(images), first)
    assert caplog.text.count("converted") == 1
    with torch.no_grad():
        network.backbone.last.bias.add_(1)
    changed = for_inference(network, Runtime(backend=backend))(images)
    torch.testing.assert_close(changed, first + 1, atol=1e-4, rtol=1e-4)
    assert caplog.text.count("converted") == 2


@pytest.mark.parametrize("backend", CONVERTING)
def test_what_cannot_be_converted_or_differs_is_said_in_one_line(backend: str) -> None:
    needs(backend)
    with pytest.raises(UserError, match="eager") as unknown:
        for_inference(small(Unknown), Runtime(backend=backend))(pixels(4, 16, 20))
    assert "cannot be converted" in str(unknown.value) and "\n" not in str(unknown.value)
    with pytest.raises(UserError, match="differ by"):
        for_inference(small(Drawing), Runtime(backend=backend))(pixels(4, 16, 20))


@pytest.mark.parametrize("backend", CONVERTING)
def test_a_missing_package_is_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{backend} .*not installed.*pip install"):
        resolve_runtime(RuntimeOptions(device="cpu", inference_backend=backend))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"C\+\+ compiler"):
        Compiled().check(torch.device("cpu"))


def test_openvino_is_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: types.SimpleNamespace())
    with pytest.raises(UserError, match="--device cpu"):
        OpenVino().check(torch.device("cuda"))


@pytest.mark.parametrize(
    ("there", "amp", "chosen"),
    [
        (("TensorrtExecutionProvider", "CUDAExecutionProvider"), torch.float16, "TensorrtExecutionProvider"),
        (("CUDAExecutionProvider",), None, "CUDAExecutionProvider"),
        ((), None, ""),
    ],
)
def test_a_gpu_gets_the_fastest_provider_or_a_sentence(
    there: tuple[str, ...], amp: torch.dtype | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = types.SimpleNamespace(get_available_providers=lambda: [*there, "CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    assert onnx_runtime.providers(torch.device("cpu")) == [("CPUExecutionProvider", {})]
    if not there:
        with pytest.raises(UserError, match="onnxruntime-gpu"):
            onnx_runtime.providers(torch.device("cuda"))
        return
    (name, settings), *others = onnx_runtime.providers(torch.device("cuda", 1), amp)
    assert (name, settings["device_id"]) == (chosen, 1) and len(others) == len(there) - 1
    assert settings.get("trt_fp16_enable", False) == (amp is not None)


def test_compile_on_means_compiled_descriptors_too() -> None:
    assert resolve_runtime(RuntimeOptions(device="cpu", compile="on")).backend == "compile"
    assert resolve_runtime(RuntimeOptions(device="cpu")).backend_facts == {}


class Recording:
    """A stand-in for CUDA's graphs: while one is recorded, what is computed is kept, and replaying it does it again."""

    def __init__(self) -> None:
        self.again: Callable[[], object] | None = None
        self.calls: list[str] = []
        self.open = False

    def replay(self) -> None:
        assert self.again is not None
        self.calls.append("replay")
        self.again()

    @contextlib.contextmanager
    def recording(self, graph: Recording, capture_error_mode: str) -> Iterator[None]:
        assert graph is self and capture_error_mode == "thread_local"
        self.open = True
        yield
        self.open = False

    def compute(self, network: Network, runtime: Runtime) -> Callable[[Tensor], Tensor]:
        eagerly = eager.Eager().describer(network, runtime)

        def called(images: Tensor) -> Tensor:
            found = eagerly(images).clone()
            self.calls.append("recorded" if self.open else "warm-up")
            if self.open:
                self.again = lambda: found.copy_(eagerly(images))
            return found

        return called


def test_a_graph_is_recorded_once_a_size_and_replayed_for_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Recording()
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda other: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", graph.recording)
    network, runtime = small(), Runtime()
    monkeypatch.setattr(cuda_graphs, "Chunked", lambda form, runtime, compute: graph.compute(network, runtime))
    describe = cuda_graphs.CudaGraphs().describer(network, runtime)
    images = pixels(37)  # two chunks of 16, and one that is filled up
    expected = for_inference(network, runtime)(images)
    assert away(describe(images), expected) < 1e-6
    # The first replay is the comparison with eager PyTorch.
    assert graph.calls == ["warm-up"] * 3 + ["recorded"] + ["replay"] * 4
    first = describe(images[:16])
    kept = first.clone()
    describe(images[16:32])
    assert torch.equal(first, kept)  # what was returned is not the graph's own memory
    assert graph.calls.count("recorded") == 1
    with pytest.raises(UserError, match=r"--inference_backend cudagraphs: does not run on cpu"):
        resolve_runtime(RuntimeOptions(device="cpu", inference_backend="cudagraphs"))


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["off", "tf32", "bf16", "fp16"])
def test_graphs_describe_as_eager_does_on_a_gpu(amp: str) -> None:
    network = build_network("resnet18conv4", "netvlad", pretrain="none")
    runtime = resolve_runtime(RuntimeOptions(device="cuda", amp=amp, inference_backend="cudagraphs"))
    describe = for_inference(runtime.prepare(network), runtime)
    for size in ((64, 64), (96, 64)):
        images = pixels(37, *size).cuda()
        expected = for_inference(network, resolve_runtime(RuntimeOptions(device="cuda", amp=amp)))(images)
        assert away(describe(images), expected) < (1e-3 if amp == "off" else 2e-2)
        assert torch.equal(describe(images), describe(images))
