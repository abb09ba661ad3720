"""The oldest and the newest libraries that pyproject.toml allows do what the pinned ones do: `make test-libraries`.

An environment for each, made by uv: minutes and the network, so pytest does not collect this file by its name. All are compared with this
interpreter's, which `make` pins to constraints.txt. torch is the same one in all: its builds are gigabytes, and each rounds in its own way.
"""

import importlib.metadata as metadata
import json
import os
import resource
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from uv import find_uv_bin

from tests.test_cli import SMALL

ROOT = Path(__file__).resolve().parents[1]
UV = find_uv_bin()
RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}
TOUCHING = ("adapters", "architectures", "reading", "sample")
"""What meets the libraries most closely: adapters, caches of many architectures, tokenizers."""
DEARER = 2.0
"""What a run may cost, in that of the pinned libraries: transformers 5.24 once took 2.7 without a word."""


@dataclass(frozen=True)
class Ran:
    answers: dict[tuple[str, ...], str]
    """(model, question, …) → greedy answer."""
    seconds: float
    """Of the processor, starting included."""


def call(*command: str | Path) -> str:
    # uv does not know pip's word for a folder of wheels.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def demo(python: Path, out: Path) -> Ran:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    said = call(python, "-m", "unsay", "demo", "--out", out, *SMALL, "--set", "train.rounds=2", "--set", "audit.limit=12")
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert "slow" not in said
    answers = {}
    for i, file in enumerate(sorted((out / "vault" / "generations").iterdir(), key=lambda file: file.stat().st_mtime_ns)):
        for row in map(json.loads, file.read_text().splitlines()):
            if row.get("asked", [""])[-1] == "greedy":
                answers[(str(i), *map(str, row["asked"]))] = row["said"]["answers"][0][1]
    return Ran(answers, seconds)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return demo(Path(sys.executable), tmp_path_factory.mktemp("pinned") / "run")


@pytest.fixture(scope="module", params=RESOLUTION)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    venv = tmp_path_factory.mktemp(request.param) / "venv"
    call(UV, "venv", "--python", sys.executable, venv)
    same = [f"{name}=={metadata.version(name)}" for name in ("torch", "pytest")]
    call(UV, "pip", "install", "--python", venv, "--resolution", RESOLUTION[request.param], *same, "--editable", ROOT)
    print(f"\n{request.param}\n{call(UV, 'pip', 'freeze', '--python', venv)}")
    return venv / "bin" / "python"


def test_the_lower_bounds_go_together(python: Path) -> None:
    """uv goes to the next version that there is, or that the others ask for; pyproject.toml must say that one."""
    if "oldest" not in str(python):
        pytest.skip("of the oldest only")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = call(UV, "pip", "freeze", "--python", python).splitlines()
    installed = dict(line.lower().split("==") for line in lines if "==" in line)
    lowest = {
        one.name: next(bound.version for bound in one.specifier if bound.operator == ">=")
        for one in map(Requirement, project["dependencies"])
    }
    wrong = {name: (bound, installed[name]) for name, bound in lowest.items() if Version(installed[name]) != Version(bound)}
    wrong.pop("torch", None)
    assert not wrong, "said and needed"


def test_the_tests_that_touch_them_pass(python: Path) -> None:
    files = [f"tests/test_{name}.py" for name in TOUCHING]
    print(call(python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *files).splitlines()[-1])


def test_a_small_run_gives_the_same_answers_at_about_the_same_cost(python: Path, pinned: Ran, tmp_path: Path) -> None:
    ran = demo(python, tmp_path / "run")
    print(f"{ran.seconds:.0f} processor seconds, {pinned.seconds:.0f} with the pinned libraries; {len(ran.answers)} greedy answers")
    assert len(pinned.answers) > 30
    assert ran.answers == pinned.answers
    assert ran.seconds < DEARER * pinned.seconds
