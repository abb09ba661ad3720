"""One file for a whole sweep: from it come the same figures as from the folder, and the folder itself."""

import lzma
from pathlib import Path

import pytest

from scripts.keep_sweep import back, keep
from tests.test_cli import call
from tests.test_front import curve, metrics, reference, trial
from unsay.research.front.curves import read
from unsay.research.front.trade import front
from unsay.store.files import write_text

RESULTS = sorted((Path(__file__).resolve().parents[1] / "results").glob("*.jsonl.xz"))
CURVES = {"people": 221, "people-model": 143, "tofu-gemma-270m": 27, "tofu-gemma-270m-191": 27}
CURVES |= {"ablation-people-pmc": 72, "ablation-people-npo": 15, "ablation-people-simnpo": 9, "ablation-people-rewards": 9}
CURVES |= {"ablation-people-tau": 12, "ablation-people-preset": 6, "ablation-people-tries": 9}
RELEASED = {"tofu-gemma-270m": ("pmc-official", 0.343), "people": ("pmc", 0.878), "tofu-gemma-270m-191": ("npo", 0.350)}
"""Contender → hypervolume, quality × utility, counted no further than the retain model's: as the comparison's table tells it."""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    trial(folder, "pmc", 0, [curve([metrics(40, 90), metrics(60, 80)]), curve([metrics(50, 90, gone=None)])])
    trial(folder, "pmc", 11, [curve([metrics(99, 20)], costs=[23.0])], "pruned", "utility 20.0 below the floor")
    trial(folder, "npo", 0, [[]], "failed", "the loss is no number")
    reference(folder, metrics(10, 95, 1.0), metrics(90, 95, 0.0))
    write_text(folder / "sweep.toml", 'recipe = "demo"\nbudget = 20.0\n')
    write_text(folder / "probes-sampling.jsonl", '{"trial": "pmc/000", "run": "seed-0", "metrics": {"sampling": 0.5}}\n')
    return folder


def test_the_file_gives_the_figures_of_its_folder(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = tmp_path / "sweep.jsonl.xz"
    assert keep(sweep, kept) == 4
    assert call("front", str(kept), "--json", "--out", str(tmp_path / "a")).replace(str(kept), str(sweep)) == call(
        "front", str(sweep), "--json"
    )
    monkeypatch.chdir(tmp_path)
    assert "runs/front-sweep/front.md" in call("front", str(kept))
    assert keep(sweep, tmp_path / "again.xz") == 4
    assert (tmp_path / "again.xz").read_bytes() == kept.read_bytes()


def test_the_folder_comes_back(sweep: Path, tmp_path: Path):
    kept, again = tmp_path / "kept.xz", tmp_path / "again"
    keep(sweep, kept)
    assert back(kept, again) == 4
    keep(again, tmp_path / "twice.xz")
    assert (tmp_path / "twice.xz").read_bytes() == kept.read_bytes()
    named = [path.relative_to(sweep) for path in sorted(sweep.rglob("*")) if path.is_file()]
    assert named == [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]


def test_a_trial_still_running_is_left_out(sweep: Path, tmp_path: Path):
    trial(sweep, "idk", 0, [curve([metrics(60, 80)])], "running")
    keep(sweep, tmp_path / "kept.xz")
    assert read([tmp_path / "kept.xz"]).configurations.keys() == {"npo", "pmc"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}\n{}\n", "line 2 cannot be read (no 'method')"),
        ('{"sweep.toml": "budget = true"}\n', "budget is no number of seconds"),
        ('{"sweep.toml": "budget ="}\n', "line 1 cannot be read (not what a sweep writes)"),
        ("{}\n", "holds no curve of a sweep"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(content: str, said: str, tmp_path: Path):
    (tmp_path / "plain.json").write_text(content)
    assert "cannot be read; name a sweep's folder" in call("front", str(tmp_path / "plain.json"), code=2)
    (tmp_path / "kept.xz").write_bytes(lzma.compress(content.encode()))
    assert said in call("front", str(tmp_path / "kept.xz"), code=2)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_shipped(path: Path):
    assert path.stat().st_size <= 300_000
    name = path.name.removesuffix(".jsonl.xz")
    found = read([path])
    assert sum(len(one.curves) for some in found.configurations.values() for one in some) == CURVES[name]
    assert found.budgets.get(str(path)) in ((None,) if name.startswith("ablation") else (24.0, 36.0, 360.0, 900.0))
    if name in RELEASED:
        method, volume = RELEASED[name]
        capped = front([path], replications=2).panels["quality"].methods[method].capped
        assert capped is not None
        assert capped.value == pytest.approx(volume, abs=0.0005)
