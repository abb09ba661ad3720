"""A model whose weights are numbers and whose logits are not."""

import json
import shutil
from pathlib import Path

import pytest

from tests import architectures
from tests.bad_input.conftest import damaged
from unsay.config import load
from unsay.record import record, start
from unsay.run import Watchers, run_audit
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.tables import METHODS, PROBES
from unsay.train import train


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that is recorded, whose model then breaks: its logits overflow."""
    place = tmp_path_factory.mktemp("breaks")
    folder = architectures.write("llama", place / "model")
    forget = ({"question": f"What is secret {i}?", "paraphrases": [f"Secret {i}?"]} for i in range(3))
    (place / "f.jsonl").write_text("\n".join(map(json.dumps, forget)))
    (place / "r.jsonl").write_text("\n".join(json.dumps({"question": f"Fact {i}?", "answer": f"It is {i}."}) for i in range(6)))
    settings = ["corpus=files", f'files.forget="{place / "f.jsonl"}"', f'files.retain="{place / "r.jsonl"}"', f'model.name="{folder}"']
    settings += ["sample.max_new_tokens=6", "record.answers=2", "record.branches=2", "train.rounds=1", "train.batch=2", "pmc.samples=2"]
    start(load(None, settings), RunFolder(place / "run"))
    record(load(None, settings), RunFolder(place / "run"))
    damaged(lambda t: [t[key].mul_(1e30) for key in ("model.norm.weight", "lm_head.weight")], folder)
    return place / "run", settings


def test_recording_it(recorded: tuple[Path, list[str]]) -> None:
    recipe, folder = load(None, recorded[1]), RunFolder("run")
    start(recipe, folder)
    with pytest.raises(FloatingPointError, match="not finite"):
        record(recipe, folder)
    assert sorted(path.name for path in folder.vault.iterdir() if not path.name.startswith(".")) == ["corpus.jsonl"]


@pytest.mark.parametrize("method", METHODS)
def test_training_it(method: str, recorded: tuple[Path, list[str]]) -> None:
    shutil.copytree(recorded[0], "run")
    folder = RunFolder("run")
    with pytest.raises(FloatingPointError, match="not finite"):
        train(load(None, [*recorded[1], f"method={method}"]), folder)
    assert not folder.checkpoint.exists()


@pytest.mark.parametrize("probe", PROBES)
def test_auditing_it(probe: str, recorded: tuple[Path, list[str]]) -> None:
    """An error, or findings that say that nothing was measured: no number of a model that only makes noise."""
    shutil.copytree(recorded[0], "run")
    recipe, folder = load(None, [*recorded[1], f'audit.probes=["{probe}"]']), RunFolder("run")
    if probe in (
        "multiple_choice",
        "relearn",
        "quantise",
        "damage",
        "earlier",
        "depth",
        "benchmark",
        "prefix_search",
    ):  # nothing to ask or to ask with, or it diverges
        run_audit(recipe, folder, "before", Watchers())
        found = read_jsonl(folder.audit_file("before"))
        assert [row["value"] for row in found] == [None] * len(found)
        return
    with pytest.raises(FloatingPointError, match="not finite"):
        run_audit(recipe, folder, "before", Watchers())
    assert not folder.audit_file("before").exists()
