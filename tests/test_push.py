"""`unsay push` against a stand-in of the hub that speaks its protocol: what is uploaded, what is refused, what never leaves."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from tests.canaries import CANARIES, SMALL, Place, options, place, say
from unsay.config import ConfigError
from unsay.report.push import push
from unsay.store.folder import RunFolder


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs: large files go to a store of their own, small ones into the commit."""

    visibility: ClassVar[list[str]] = []
    files: ClassVar[dict[str, bytes]] = {}
    status = 200

    def log_message(self, *_: object) -> None: ...

    def _reply(self, told: object, status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        Hub.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply({})

    def do_POST(self) -> None:
        body, here = self.rfile.read(int(self.headers["Content-Length"])), f"http://{self.headers['Host']}"
        if self.status != 200:
            return self._reply({"error": "no"}, self.status)
        if self.path == "/api/validate-yaml":
            return self._reply({"errors": [], "warnings": []})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    Hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "lfsFile":
                    Hub.files[line["value"]["path"]] = Hub.files.pop(f"/blob/{line['value']['oid']}")
            return self._reply({"commitUrl": f"{here}/me/model/commit/1", "commitOid": "1" * 40, "success": True})
        told = json.loads(body)
        if self.path == "/api/repos/create":
            Hub.visibility.append(told["visibility"])
            return self._reply({"url": f"{here}/me/model", "name": "me/model"})
        if "/preupload/" in self.path:
            modes = {True: "lfs", False: "regular"}
            found = [
                {"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")], "shouldIgnore": False} for f in told["files"]
            ]
            return self._reply({"files": found})
        stored = [{**one, "actions": {"upload": {"href": f"{here}/blob/{one['oid']}"}}} for one in told["objects"]]
        return self._reply({"transfer": "basic", "objects": stored})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.visibility, Hub.files, Hub.status = [], {}, 200
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_of-nobody")
    yield Hub
    server.shutdown()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Place:
    found = place(tmp_path_factory.mktemp("push"))
    assert say("run", found.recipe, "--out", found.run, *options(SMALL), "--set", "report.policy=default") == 0
    return found


def test_the_checkpoint_and_nothing_else_is_uploaded(given: Place, hub: type[Hub], capsys: pytest.CaptureFixture[str]):
    assert say("push", given.run, "me/model", "--failed") == 0
    assert capsys.readouterr().out.strip().endswith("/me/model/commit/1")
    checkpoint = given.run / "checkpoint"
    assert hub.files == {path.relative_to(checkpoint).as_posix(): path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}
    assert hub.visibility == ["private"]
    assert not [name for name, secret in CANARIES.items() if any(secret.encode() in sent for sent in hub.files.values())]
    card = hub.files["README.md"].decode()
    assert "lines failed" in card
    assert "pipeline_tag: text-generation" in card


def test_what_may_not_be_released_is_not(given: Place, hub: type[Hub]):
    with pytest.raises(ConfigError, match=r"lines of policy default failed .*--failed"):
        push(RunFolder(given.run), "me/model")
    assert not hub.files
    assert not hub.visibility


def test_a_refusal_is_told_without_the_token(given: Place, hub: type[Hub]):
    hub.status = 403
    with pytest.raises(ConfigError, match=r"refuses me/model \(403\)") as caught:
        push(RunFolder(given.run), "me/model", public=True, failed=True)
    assert "hf_of" not in str(caught.value)


def test_a_hub_that_is_not_there_is_told(given: Place, hub: type[Hub], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="cannot be reached"):
        push(RunFolder(given.run), "me/model", failed=True)


def test_a_name_that_none_can_have_is_named(given: Place, hub: type[Hub]):
    with pytest.raises(ConfigError, match="no//name"):
        push(RunFolder(given.run), "no//name", failed=True)


def test_another_model_in_its_place_is_not_uploaded(given: Place, hub: type[Hub], tmp_path: Path):
    config = given.run / "checkpoint" / "generation_config.json"
    kept = config.read_bytes()
    config.write_bytes(kept + b"\n")
    try:
        with pytest.raises(ConfigError, match="generation_config"):
            push(RunFolder(given.run), "me/model", failed=True)
    finally:
        config.write_bytes(kept)
    assert not hub.files
