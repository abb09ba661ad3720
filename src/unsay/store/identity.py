"""Which model a report is about: a hash of the tensors in a folder, read from its safetensors files without loading a model.

    of(folder)                 {"weights": "ab12…", "files": {"config.json": "…", "tokenizer.json": "…"}}
    differences(told, folder)  ["weights"]

The weights are hashed tensor by tensor in order of their names (name, type, shape, bytes), so that neither the number of
files nor what else stands in them matters. Every other file counts whole but the card, which `report` writes anew, and the
index of a sharded checkpoint.
"""

import hashlib
import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.store.files import sha256

META = "unsay-identity"
"""Name of the `meta` element of report.html that carries what report.json has under `identity`."""
_LEFT_OUT = (".safetensors", ".md", ".index.json")
_CHUNK = 1 << 24


def of(folder: Path) -> dict[str, Any]:
    """Hashes of the model in a folder. Raises `ConfigError` where there is none."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {"weights": weights(folder), "files": {path.name: sha256(path) for path in files if not path.name.endswith(_LEFT_OUT)}}


def weights(folder: Path) -> str:
    """SHA-256 of all tensors of a folder. Raises `ConfigError` where it has none, or one twice."""
    places: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        start, header = _header(path)
        for name, about in header.items():
            if name in places:
                raise ConfigError(f"{path} holds the tensor {name} a second time; remove the file that does not belong there")
            places[name] = path, start, about
    if not places:
        raise ConfigError(f"{folder} holds no .safetensors file; name the folder of a checkpoint")
    digest = hashlib.sha256()
    for name, (path, start, about) in sorted(places.items()):
        digest.update(f"{name}|{about['dtype']}|{about['shape']}|".encode())
        begin, end = about["data_offsets"]
        with path.open("rb") as file:
            file.seek(start + begin)
            left = end - begin
            while left:
                part = file.read(min(_CHUNK, left))
                if not part:
                    raise ConfigError(f"{path} ends before its last tensor; it was torn")
                digest.update(part)
                left -= len(part)
    return digest.hexdigest()


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and what is said of each (the format: 8 bytes of length, JSON, then the bytes)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for about in header.values():
            begin, end = about["data_offsets"]
            if not 0 <= begin <= end or "dtype" not in about or "shape" not in about:
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is no safetensors file, or was torn") from None
    return 8 + length, header


def differences(told: Mapping[str, Any], folder: Path) -> list[str]:
    """What of a folder is not what was told of it, each with how: changed, missing, or added. Raises `ConfigError`."""
    now = of(folder)
    found = [] if now["weights"] == told["weights"] else ["weights: changed"]
    then, here = told["files"], now["files"]
    for name in sorted({*then, *here}):
        if then.get(name) != here.get(name):
            found.append(f"{name}: {'added' if name not in then else 'missing' if name not in here else 'changed'}")
    return found


def told(report: Path) -> dict[str, Any]:
    """What a report says it is about: report.json, report.html, or the run folder of either. Raises `ConfigError`."""
    path = report / "report.json" if report.is_dir() else report
    try:
        text = path.read_text(encoding="utf-8")
        found = _meta(text) if path.suffix.lower() in (".html", ".htm") else json.loads(text).get("identity")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); `unsay report RUN` writes one") from None
    except (ValueError, AttributeError):
        raise ConfigError(f"{path} is no report of unsay") from None
    checkpoint = found.get("checkpoint") if isinstance(found, dict) else None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("files"), dict) or "weights" not in checkpoint:
        raise ConfigError(f"{path} names no checkpoint; audit the model in its folder (`unsay audit RUN`), then `unsay report RUN` again")
    return dict(found)


def _meta(page: str) -> Any:
    parser = _Metas()
    parser.feed(page)
    return json.loads(parser.found)


class _Metas(HTMLParser):
    found = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "meta" and values.get("name") == META and not self.found:
            self.found = values.get("content") or ""
