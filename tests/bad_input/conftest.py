"""Nothing let in: what a refusal must be. It names the place, quotes nothing and leaves nothing behind.

Files and recipes are refused before a run folder begins, models before anything is asked of them. What more there is to say
of one kind stands in its own file: test_formats and test_check (data), test_architectures (models).
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from unsay.config import ConfigError, load
from unsay.record import start
from unsay.store.folder import RunFolder

SECRET = "Zebrafinch"
Q = f'{{"question": "{SECRET} one?"}}\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(settings: list[str], said: str) -> None:
    """The run is refused before it has begun, in words that name the place and quote nothing, and nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(ConfigError) as caught:
        start(load(None, ["corpus=files", *settings]), RunFolder("run"))
    text = str(caught.value)
    assert said in text
    assert SECRET.casefold() not in text.casefold()
    assert len(text) < 1000
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def damaged(change: Callable[[dict[str, Tensor]], object], folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
