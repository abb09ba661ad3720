"""What another package brings: a probe that reaches report, claim and policy, and the contract tests for all four kinds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor
from transformers import PreTrainedModel

from tests.conftest import byte_tokenizer, small_run, tiny_model
from unsay.contract import broken, kinds_of
from unsay.lm.model import answer_logprobs
from unsay.lm.rows import Batch
from unsay.methods.gradient import GradientDifference

PLUGIN = Path(__file__).parent / "plugin" / "outside.py"
POINTS = """
[unsay.probes]
whisper = outside:Whisper
broken = outside:Broken
[unsay.rewards]
brief = outside:Brief
[unsay.methods]
polite = outside:Polite
[unsay.corpora]
bees = outside:Bees
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that holds the outside one, as pip would leave it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "outside.py").write_text(PLUGIN.read_text(encoding="utf-8"), encoding="utf-8")
    about = folder / "outside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    return folder


def unsay(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "unsay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)


@pytest.fixture(scope="module")
def run(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose method, probe and corpus are all of the outside package."""
    place = tmp_path_factory.mktemp("run")
    model = place / "model"
    tiny_model().save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    policy = place / "mine.toml"
    policy.write_text('[[line]]\nname = "begged"\nmetric = "whisper_keyword_recall"\nat_most = 1\n')
    settings = [*small_run(model, place, 1, 1)[3:], "corpus=bees", "method=polite", "train.rounds=1"]
    settings += ['audit.probes=["greedy", "whisper"]', f'report.policy="{policy}"', 'pmc.rewards={ "brief" = 1.0 }']
    done = unsay(installed, "run", "own-questions", "--out", str(place / "out"), *(part for s in settings for part in ("--set", s)))
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "out"


def test_an_outside_probe_is_in_report_claim_page_and_policy(run: Path) -> None:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["whisper_keyword_recall"]["after"] == 0.0
    assert "a plea (Please.)" in report["claim"]
    assert "0.00 (before 0.00) when it is begged" in report["claim"]
    assert [line["name"] for line in report["policy"]["lines"] if line["passed"]] == ["begged"]
    assert ["whisper", "Please."] in [[row["probe"], row["setting"]] for row in report["settings"]]
    assert "Asked with a plea" in (run / "report.html").read_text(encoding="utf-8")


def test_findings_of_a_probe_that_is_gone_are_said_not_dropped(run: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "unsay", "gate", str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "begged: unscored" in done.stdout


def test_what_keeps_its_contract(installed: Path) -> None:
    """One process for all: most of the time is imports."""
    names = [
        "whisper",
        "brief",
        "polite",
        "bees",
        "sampling",
        "prefill",
        "multiple_choice",
        "overlap",
        "refusal",
        "npo",
        "dpo",
        "pmc",
        "people",
    ]
    code = "import sys, json; from unsay.contract import broken, kinds_of\n"
    code += "print(json.dumps({name: [broken(kind, name) for kind in kinds_of(name)] for name in sys.argv[1:]}))"
    path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-c", code, *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [[]] for name in names}


def test_the_command_says_so(installed: Path) -> None:
    done = unsay(installed, "check-plugin", "brief", "--set", "brief.most=2")
    assert (done.returncode, done.stdout) == (0, "brief keeps its contract.\n"), done.stderr


def test_what_breaks_its_contract_is_told_every_promise(installed: Path) -> None:
    done = unsay(installed, "check-plugin", "broken")
    assert done.returncode == 1
    for words in ("Does not cover", "declares no `metrics`", "of the probe 'another'", "7.0, which is not in [0, 1]"):
        assert words in done.stdout


def test_a_loss_that_is_no_share_of_the_step_breaks_its_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: GradientDifference, model: PreTrainedModel, reference: None, batch: Batch) -> dict[str, Tensor]:
        return {"forget": answer_logprobs(model, batch).sum() / batch.mask.sum()}  # of the batch, not of the step

    (kind,) = kinds_of("gd")
    assert broken(kind, "gd") == []
    monkeypatch.setattr(GradientDifference, "loss", loss)
    assert [said for said in broken(kind, "gd") if "cut into batches" in said]


def test_an_unknown_name_lists_the_near_ones(installed: Path) -> None:
    done = unsay(installed, "check-plugin", "whispre")
    assert done.returncode == 2
    assert "did you mean 'whisper'" in done.stderr
