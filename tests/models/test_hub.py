"""Networks on the Hugging Face hub: its own client against a server on this machine that keeps what it is sent."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants

import vgbench
from vgbench.cli import export
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.pretrained_folder import CONFIG, MODEL

TOKEN = "hf_of_the_test"


class Hub(BaseHTTPRequestHandler):
    """What the client asks a hub for when it makes a repository, sends a commit and fetches files."""

    files: dict[str, bytes]

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, status: int, **values: object) -> None:
        self.answer(status, json.dumps(values).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        repository, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        content = self.files.get(f"{repository}/{file}")
        if content is None:
            self.answer(404, b"", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.answer(200, content, ETag=etag, X_Repo_Commit="0" * 40)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, b"", X_Error_Message="Invalid username or password.")
        elif self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            self.say(200, url=f"http://{self.headers['Host']}/{name}", name=name, id="0")
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(content)["files"]]
            self.say(200, files=[{**file, "shouldIgnore": False} for file in files])
        else:
            repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.files[f"{repository}/{line['value']['path']}"] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{repository}/commit/{'0' * 40}"
            self.say(200, commitUrl=url, commitOid="0" * 40, success=True)

    def log_message(self, format: str, *values: object) -> None:
        del format, values


@pytest.fixture
def hub(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    files: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Hub,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield files
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_pushed_comes_back_bit_for_bit(hub: dict[str, bytes]) -> None:
    torch.manual_seed(3)
    network = build_network("resnet18conv4", "gem", "none")
    mine = vgbench.load_network(network, size=(64, 96), amp="off", device="cpu")
    assert mine.push_to_hub("someone/my-town").endswith("/someone/my-town")
    assert {f"someone/my-town/{name}" for name in (CONFIG, MODEL)} <= hub.keys()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    for again in (
        vgbench.load_network("hf://someone/my-town", amp="off", device="cpu"),
        vgbench.LoadedNetwork.from_pretrained("someone/my-town@main", amp="off", device="cpu"),
    ):
        with torch.inference_mode():
            assert torch.equal(again(images), mine(images))
        assert again.inference.size == (64, 96)


def test_eval_and_export_take_a_name_of_the_hub(hub: dict[str, bytes], tiny_dataset, tmp_path, call) -> None:
    torch.manual_seed(3)
    network = build_network("efficientnet_lite0_s16", "gem", "none")
    vgbench.load_network(network, size=(32, 32), amp="off", device="cpu").push_to_hub("someone/my-town")
    status, _, told = call(
        "eval.py", "--resume=hf://someone/my-town@main", f"--datasets_folder={tiny_dataset.parent}",
        f"--dataset_name={tiny_dataset.name}", "--num_workers=0", f"--run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert status == 0, told
    log = (tmp_path / "run" / "info.log").read_text()
    assert "efficientnet_lite0_s16 + gem" in log and "32x32" in log
    export.main(["--resume", "hf://someone/my-town", "--output", str(tmp_path / "out.ts")])
    assert (tmp_path / "out.ts").stat().st_size > 1e5
    status, _, told = call("eval.py", "--resume=hf://someone/nothing", f"--run_dir={tmp_path / 'no'}")
    assert status == 2 and told.startswith("error: hf://someone/nothing: ") and told.count("\n") == 1
    status, _, told = call("eval.py", "--resume=hf://someone", f"--run_dir={tmp_path / 'no'}")
    assert status == 2 and "hf://someone: is no name of the hub" in told


def test_without_a_connection_the_hub_is_asked_once(hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")  # where nobody listens
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        with pytest.raises(UserError, match=r"hf://someone/my-town: .*a connection; or its folder"):
            vgbench.load_network("hf://someone/my-town")
    assert not waits


def test_a_hostile_repository_names_no_code(hub: dict[str, bytes]) -> None:
    vgbench.load_network(build_network("resnet18conv4", "gem", "none")).push_to_hub("someone/bad")
    said = json.loads(hub[f"someone/bad/{CONFIG}"])
    said["network_config"]["backbone"] = "os:system"
    hub[f"someone/bad/{CONFIG}"] = json.dumps(said).encode()
    with pytest.raises(UserError, match=r"os:system.*cannot ask for") as told:
        vgbench.load_network("hf://someone/bad")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/nothing", "hf://someone/nothing: .*Expected"),
        ("someone", "is no name of the hub"),
        ("../../etc/passwd", "is no name of the hub"),
        ("a/b/c", "is no name of the hub"),
    ],
)
def test_what_is_not_there_is_one_line(name: str, message: str, hub: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match=message) as told:
        vgbench.load_network(f"hf://{name}")
    assert "\n" not in str(told.value)


def test_without_a_token_or_a_connection_it_is_one_line(hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    network = vgbench.load_network(build_network("resnet18conv4", "gem", "none"))
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="hf auth login") as told:
        network.push_to_hub("someone/my-town")
    assert "\n" not in str(told.value) and not hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="connection") as told:
        vgbench.load_network("hf://someone/my-town")
    assert "\n" not in str(told.value)
