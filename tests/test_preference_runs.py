"""DPO, NPO, SimNPO, AltPO and IDK in whole runs: resumed, accumulated, counted, planned."""

import json
import math
from pathlib import Path

import pytest

from tests.test_train import begin, interrupted
from unsay.record.recorded import read_recorded
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.train import train


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "forget.jsonl").write_text("\n".join(json.dumps({"question": f"What is secret number {i}?"}) for i in range(5)))
    facts = ({"question": f"What is fact number {i}?", "answer": f"It is {i}."} for i in range(8))
    (folder / "retain.jsonl").write_text("\n".join(map(json.dumps, facts)))
    return [
        "corpus=files",
        f'files.forget="{folder / "forget.jsonl"}"',
        f'files.retain="{folder / "retain.jsonl"}"',
        f'model.name="{tiny_folder}"',
        "sample.max_new_tokens=24",
        "record.answers=1",
        "record.branches=0",
        "train.rounds=4",
        "train.batch=1",
        "train.accumulation=2",
        "train.save_every=1",
        "train.learning_rate=1e-3",
    ]


def finish(path: Path, settings: list[str], *more: str) -> RunFolder:
    recipe, folder = begin(path, settings, *more)
    train(recipe, folder)
    return folder


LORA = ("lora.rank=4", "lora.dropout=0.1")
METHODS = {
    "idk": ("method=idk", "idk.refusals=hundred"),
    "npo": ("method=npo",),
    "npo-half": ("method=npo", "model.dtype=bfloat16"),
    "simnpo": ("method=simnpo",),
    "dpo": ("method=dpo", "dpo.refusals=hundred"),
    "altpo": ("method=altpo", "train.resample=round"),
    "altpo-lora": ("method=altpo", *LORA),
    "retain-only": ("method=retain-only",),
}


@pytest.mark.parametrize("more", METHODS.values(), ids=METHODS)
def test_resumed_equals_straight(tmp_path, settings, more):
    straight = finish(tmp_path / "straight", settings, *more)
    folder = interrupted(tmp_path / "resumed", settings, *more)
    for key in ("checkpoint", "exposure"):
        assert getattr(folder.manifest(), key) == getattr(straight.manifest(), key)
    assert read_steps(folder) == read_steps(straight)


def read_steps(folder: RunFolder) -> list[dict[str, object]]:
    return [{**line, "seconds": 0} for line in read_jsonl(folder.steps_file)]


def test_stopped_before_anything_was_saved_it_looks_at_the_untouched_model_again(tmp_path, settings):
    more = ("method=altpo", "train.save_every=4")
    straight = finish(tmp_path / "straight", settings, *more)
    recipe, folder = begin(tmp_path / "resumed", settings, *more)

    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, watch=stop)
    train(recipe, folder)
    assert folder.manifest().checkpoint == straight.manifest().checkpoint


@pytest.mark.parametrize("method", ["npo", "dpo", "altpo"])
def test_the_first_step_stands_at_the_reference(tmp_path, settings, method):
    """Every margin is 0 before anything has moved, so the forget term is (2/β)·ln 2: the reference is that of the very same model."""
    folder = finish(tmp_path / "run", settings, f"method={method}", "train.rounds=1")
    assert read_steps(folder)[0]["forget"] == pytest.approx(20 * math.log(2), abs=1e-3)


@pytest.mark.parametrize("method", ["npo", "dpo", "altpo"])
def test_accumulation_changes_nothing_but_rounding(tmp_path, settings, method):
    steps = []
    for name, more in (("whole", ["train.batch=4", "train.accumulation=1"]), ("parts", ["train.batch=1", "train.accumulation=4"])):
        steps.append(read_steps(finish(tmp_path / name, settings, f"method={method}", "train.rounds=2", *more)))
    assert len(steps[0]) == len(steps[1]) == 4
    for whole, parts in zip(*steps, strict=True):
        assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-4)
        assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=2e-3)


@pytest.mark.parametrize(
    ("more", "reads"),
    [
        (("method=npo",), {"loss": 10, "reference": 5}),
        (("method=simnpo",), {"loss": 10}),
        (("method=dpo",), {"loss": 10, "reference": 5}),
        (("method=altpo",), {"loss": 10, "reference": 5, "request": 5}),
        (("method=altpo", 'altpo.request="{question}"'), {"loss": 10, "reference": 5}),
        (("method=idk",), {}),
    ],
    ids=["npo", "simnpo", "dpo", "altpo", "altpo-unshown", "idk"],
)
def test_the_ledger_counts_every_reading_of_the_answer(tmp_path, settings, more, reads):
    folder = finish(tmp_path / "run", settings, *more, "train.rounds=2")
    exposure = folder.manifest().exposure
    assert exposure.baseline_reads == reads
    spoken = sum(any(c.isalnum() for c in answer) for answer in read_recorded(folder).answers.values())
    assert exposure.over_half == (2 * spoken if reads else 0)


def test_alternatives_stay_in_the_vault(tmp_path, settings):
    folder = finish(tmp_path / "run", settings, "method=altpo")
    (kept,) = folder.vault.glob("method-state-*.jsonl")
    texts = [answer["text"] for line in read_jsonl(kept) for answer in line["preferred"]]
    words = {text for text in texts if len(text) > 8}
    assert words
    outside = [path for path in folder.path.rglob("*") if path.is_file() and folder.vault not in path.parents]
    assert not [path for path in outside for text in words if text.encode() in path.read_bytes()]
