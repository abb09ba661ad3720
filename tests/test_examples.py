"""The examples run as they stand, at reduced size: three scripts, and a notebook whose cells are run one after another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import SMALL

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SETTINGS = [*SMALL[1::2], "record.own_retain=16", 'audit.probes=["greedy", "sampling", "prefill", "multiple_choice", "utility"]']


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"audit.py", "compare.py", "forget.py", "walkthrough.ipynb"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "said"), [("forget", "utility_heldout"), ("audit", "people-retain"), ("compare", "wellformed_share")])
def test_a_script_runs(name: str, said: str, tmp_path: Path) -> None:
    # A script for audits alone refuses knobs of training.
    settings = [knob for knob in SETTINGS if name != "audit" or knob.startswith(("sampling.", "prefill.", "sample."))]
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *settings], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "walkthrough.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "no output is kept: it would age"
            exec("".join(cell["source"]), names)
            if "SETTINGS" in names and isinstance(names["SETTINGS"], list):
                names["SETTINGS"] = [*dict.fromkeys([*names["SETTINGS"], *SETTINGS])]
    told = capsys.readouterr().out
    assert "not passed" in told, "one round forgets nothing"
    assert "At 62 Violet Close" in told
