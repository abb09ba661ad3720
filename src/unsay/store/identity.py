"""Which model a report is about: hashes of all in a folder that may change what its model says, read without loading it.

    of(folder)                     {"format": 2, "weights": "ab12…", "files": {"config.json": "…", "sub/more.json": "…"}}
    differences(identity, folder)  ["weights: changed", "chat_template.jinja: added"]

The weights that transformers would read are hashed tensor by tensor in order of their names, however they are divided into files. Every
other file of the whole tree counts as it is. A link to a file counts as that file, since the hub's cache consists of them; a link to a
folder is refused. Only the card, which `report` writes anew, and what git and the hub's client keep for themselves may change.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.store.files import sha256

META = "unsay-identity"
"""Name of the `meta` element of report.html that carries what report.json has under `identity`."""
FORMAT = 2
"""Raised where an identity covers more than before: an older one cannot vouch for what it did not look at."""
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FREE = ("README.md", ".gitattributes")
"""May change."""
_CLIENTS = (".git/", ".cache/huggingface/")
"""What lies here may change, too, but for what a configuration can name as weights."""
_CHUNK = 1 << 24


def of(folder: Path) -> dict[str, Any]:
    """Hashes of the model in a folder. Raises `ConfigError` where there is none, or something in it cannot be hashed."""
    try:
        files = _tree(folder)
        index, weights = _weights_files(folder, files)
        rest = {name: sha256(path) for name, path in files.items() if name not in (index, *weights)}
        return {"format": FORMAT, "weights": _tensors([files[name] for name in weights]), "files": rest}
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read ({error.strerror})") from None


def _tree(folder: Path) -> dict[str, Path]:
    """Every file under a folder by its path in it. Raises `ConfigError` at what is none: it may be another thing when it is read."""

    def unreadable(error: OSError) -> None:
        raise error

    found = {}
    for place, folders, names in os.walk(folder, onerror=unreadable):
        for path in (Path(place, name) for name in (*folders, *names)):
            inside = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
            if path.is_dir() and not path.is_symlink():
                continue  # walked into
            if not path.is_file():
                raise ConfigError(f"{path} is no ordinary file (a link to a folder or to nothing, a pipe); a model needs none: remove it")
            if not (inside in _FREE or (inside.startswith(_CLIENTS) and not inside.endswith((".safetensors", ".json")))):
                found[inside] = path
    return dict(sorted(found.items()))


def _weights_files(folder: Path, files: Mapping[str, Path]) -> tuple[str, list[str]]:
    """The index (empty where there is none) and the files of weights that transformers would read, in its order of preference. Nothing
    rests on this being right for every program: what is not named here counts as a whole file."""
    configured = _configured(files)
    if configured and configured not in files:
        raise ConfigError(f"{files['config.json']} names {configured}, which is not among the files of the model")
    first = configured or next((name for name in (_WEIGHTS, _INDEX) if name in files), None)
    if first is None:
        raise ConfigError(f"{folder} holds neither {_WEIGHTS} nor {_INDEX}; name the folder of a checkpoint")
    if not first.endswith(".index.json"):
        return "", [first]
    try:
        named = {posixpath.normpath(name) for name in json.loads(files[first].read_bytes())["weight_map"].values()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigError(f"{files[first]} is no index of weights") from None
    if astray := sorted(named - files.keys()):
        raise ConfigError(f"{files[first]} names {astray[0]}, which is not among the files of the model")
    if not named:
        raise ConfigError(f"{files[first]} names no weights")
    return first, sorted(named)


def _configured(files: Mapping[str, Path]) -> str:
    """The file of weights, or their index, that config.json names itself; empty where it names none."""
    try:
        named: str = json.loads(files["config.json"].read_bytes())["transformers_weights"]
        return posixpath.normpath(named)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _tensors(paths: list[Path]) -> str:
    """SHA-256 of all tensors in some files. Raises `ConfigError` where one is there twice."""
    places: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
    notes: dict[str, str] = {}
    for path in paths:
        start, header = _header(path)
        notes |= header.pop("__metadata__", {})
        for name, about in header.items():
            if name in places:
                raise ConfigError(f"{path} holds the tensor {name} a second time; remove the file that does not belong there")
            places[name] = path, start, about
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
    # How torchao's tensors are to be unpacked stands here. "format" names the library that wrote them.
    if notes := {key: value for key, value in sorted(notes.items()) if key != "format"}:
        digest.update(json.dumps(notes).encode())
    return digest.hexdigest()


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and what is said of each (the format: 8 bytes of length, JSON, then the bytes)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError
            header: dict[str, Any] = json.loads(file.read(length))
        for name, about in header.items():
            if name == "__metadata__":
                about.items()
                continue
            begin, end = about["data_offsets"]
            if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end) or "dtype" not in about or "shape" not in about:
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{path} is no safetensors file, or was torn") from None
    return 8 + length, header


def differences(identity: Mapping[str, Any], folder: Path) -> list[str]:
    """The parts of a folder that differ from an identity, each with how: changed, missing, or added. Raises `ConfigError`."""
    if identity.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} cannot be held against its audit, which was made by an older version of unsay, which hashed less: audit it again "
            "(`unsay audit RUN --which after`), then `unsay report RUN`"
        )
    now = of(folder)
    found = [] if now["weights"] == identity["weights"] else ["weights: changed"]
    then, here = identity["files"], now["files"]
    for name in sorted({*then, *here}):
        if then.get(name) != here.get(name):
            found.append(f"{name}: {'added' if name not in then else 'missing' if name not in here else 'changed'}")
    return found


def of_report(report: Path) -> dict[str, Any]:
    """The identity that a report names, from report.json, report.html, or the run folder that holds them. Raises `ConfigError`."""
    path = report / "report.json" if report.is_dir() else report
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".html", ".htm"):
            page = _Metas()
            page.feed(text)
            found = json.loads(page.found)
        else:
            found = json.loads(text).get("identity")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); `unsay report RUN` writes one") from None
    except (ValueError, AttributeError):
        raise ConfigError(f"{path} is no report of unsay") from None
    checkpoint = found.get("checkpoint") if isinstance(found, dict) else None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("files"), dict) or "weights" not in checkpoint:
        raise ConfigError(f"{path} names no checkpoint; audit the model in its folder (`unsay audit RUN`), then `unsay report RUN` again")
    return dict(found)


class _Metas(HTMLParser):
    found = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "meta" and values.get("name") == META and not self.found:
            self.found = values.get("content") or ""
