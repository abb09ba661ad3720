"""A sweep of a tiny model, its file and what it leaves."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.test_cli import call
from unsay.run import Watchers
from unsay.store.files import read_jsonl

if TYPE_CHECKING:
    from unsay.research.sweep.worker import Shared

SWEEP = """
recipe = "recipe.toml"
methods = ["gd", "idle"]
configurations = 1
seeds = [0, 1]
budget = 0.001
checkpoints = 3
floor = 0.0
final = ["sampling"]

[fixed.idle]
method = "retain-only"

[space.all]
"train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }

[space.gd]
"gd.retain_weight" = [1.0, 2.0, 4.0]

[first.gd]
"train.learning_rate" = 1e-3
"gd.retain_weight" = 2.0
"""
NONE = Watchers()


@pytest.fixture(scope="session")
def file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file beside its recipe and rows."""
    place = tmp_path_factory.mktemp("sweep")
    forget = [{"question": f"What is secret {i}?", "strings": [f"secret {i}{i}"], "paraphrases": [f"Name {i}."]} for i in range(2)]
    retain = [{"question": f"What is fact number {i}?", "answer": f"It is {i}."} for i in range(4)]
    for name, rows in (("forget", forget), ("retain", retain)):
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "recipe.toml").write_text(f"""
corpus = "files"
method = "pmc"
[files]
forget = "{place / "forget.jsonl"}"
retain = "{place / "retain.jsonl"}"
[model]
name = "{tiny_folder}"
[sample]
max_new_tokens = 4
[record]
answers = 2
branches = 2
[train]
batch = 2
[utility]
limit = 2
[sampling]
n = 2
temperatures = [1.0]
""")
    (place / "sweep.toml").write_text(SWEEP)
    return place / "sweep.toml"


def begun(file: Path, out: Path, *settings: str, chosen: Path | None = None) -> "Shared":
    from unsay.research.sweep import launch  # without the extra `sweep` these tests are skipped, and this file is read all the same

    return launch.shared(file, out, settings, chosen)


@pytest.fixture(scope="session")
def finished(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert call("sweep", str(file), "--out", str(out)).strip() == str(out)
    return out


@pytest.fixture
def recorded(finished: Path, tmp_path: Path) -> Path:
    """The folder of a sweep that has recorded, and nothing more."""
    shutil.copytree(finished / "recorded", tmp_path / "out" / "recorded")
    return tmp_path / "out"


def told(out: Path) -> dict[str, dict[str, Any]]:
    return {str(path.parent.relative_to(out)): json.loads(path.read_text()) for path in sorted(out.glob("*/*/trial.json"))}


def scores(out: Path) -> dict[str, Any]:
    """What must not depend on how a sweep came about: everything but what it cost."""
    free = {"seconds", "cpu_seconds", "gpu_seconds", "seconds_a_round", "seconds_before"}
    paths = sorted(out.glob("*/*/seed-*/curve.jsonl"))
    curves = {str(path.relative_to(out)): [{k: v for k, v in row.items() if k not in free} for row in read_jsonl(path)] for path in paths}
    audits = {str(path.relative_to(out)): path.read_text() for path in sorted(out.glob("*/*/seed-*/audit/after.jsonl"))}
    trials = {place: {k: v for k, v in one.items() if k not in free} for place, one in told(out).items()}
    return {"curves": curves, "audits": audits, "trials": trials, "reference": (out / "reference.json").read_text()}


def settings_of(out: Path) -> dict[str, Any]:
    return {place: one["settings"] for place, one in told(out).items()}
