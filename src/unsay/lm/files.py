"""The files of a model, looked at before any is loaded: what loads a model refuses, a check and a run say first."""

import json
import re
from pathlib import Path

from unsay.config import ConfigError, first_of
from unsay.config.build import NoFolder, named
from unsay.lm import builtin

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = "*.safetensors.index.json"
_PART = re.compile(r".*-\d+-of-\d+\.safetensors")


def look_at(name: str, what: str = "cannot load model") -> bool:
    """Whether a model is here; where it is not, it may be a name on the hub, whose files are looked at as they are loaded.

    Raises `ConfigError`, which begins with `what`, where its folder is missing or not what may be loaded. Nothing is loaded or
    converted. Links in a folder are followed, as the hub's cache consists of them: who may put a link there may put a file there. A
    path that is written in a file is another matter, so an index of weights may name files of its own folder alone.
    """
    if name in builtin.describe():
        return True
    folder, said = Path(name), f"{what} {named(name)}:"
    try:
        kind = "folder" if folder.is_dir() else "file" if folder.is_file() else ""
    except OSError:
        kind = ""
    if kind == "file":
        raise ConfigError(f"{said} it is a file; name the folder that transformers saved, with config.json in it")
    if not kind:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise NoFolder(f"{said} there is no folder of that name")
        return False
    try:
        _look_into(folder, said)
    except OSError as error:
        raise ConfigError(f"{said} it cannot be read ({error.strerror})") from None
    return True


def _look_into(folder: Path, said: str) -> None:
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"{said} the folder holds adapters (adapter_config.json), which name another model to be loaded; merge them into it and "
            "name the merged folder"
        )
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{said} it has no config.json, so it is no model folder as transformers saves it")
    try:
        whole = isinstance(json.loads((folder / "config.json").read_text(encoding="utf-8")), dict)
        what = "" if whole else "a list or a value"
    except (ValueError, RecursionError) as error:
        what = type(error).__name__
    if what:
        raise ConfigError(f"{said} its config.json is no JSON object ({what}); copy the model again")
    indices = sorted(folder.glob(_INDEX))
    for index in indices:
        _index(index, said)
    weights = [path.name for path in folder.glob("[!.]*.safetensors") if path.is_file()]
    if not weights:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        if pickled:
            raise ConfigError(
                f"{said} its weights stand in {first_of(pickled)}, and pickled files can run code when they are read, so none is. "
                "Save the model again as safetensors, where you trust it (save_pretrained does)"
            )
        raise ConfigError(f"{said} it has no .safetensors file, and weights are read from nothing else")
    if not indices and all(map(_PART.fullmatch, weights)):
        raise ConfigError(f"{said} its weights are parts without model.safetensors.index.json, which names them all; copy the model again")


def _index(path: Path, said: str) -> None:
    """Raises `ConfigError` where an index of weights cannot be read, or names a file that is not beside it."""
    try:
        files = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{said} {path.name} is no index of weights ({type(error).__name__}); copy the model again") from None
    for name in files:
        if not isinstance(name, str) or name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
            raise ConfigError(f"{said} {path.name} names {name!r}: weights are read from .safetensors files of the same folder alone")
    missing = sorted(name for name in files if not (path.parent / name).is_file())
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{said} {path.name} names {first_of(missing)}, which {are} not there; copy the model again")
