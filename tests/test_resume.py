"""Nothing is lost: processes killed at any moment, full disks, damaged states, signals, two processes on one folder."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mortal import CALLS, Death, Mortal
from tests.test_cli import call
from unsay.config import ConfigError
from unsay.store import files, interrupt
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder

RECIPE = """
corpus = "files"
method = "pmc"
[files]
forget = "{folder}/forget.jsonl"
retain = "{folder}/retain.jsonl"
[model]
name = "{model}"
freeze_embeddings = true
[sample]
max_new_tokens = 16
[record]
answers = 3
replay = 8
branches = 2
[train]
rounds = 5
batch = 2
save_every = 2
learning_rate = 1e-3
{train}
[watch]
rows = 16
[pmc]
preset = "{preset}"
samples = 3
{knobs}
[audit]
probes = ["greedy", "sampling"]
[sampling]
n = 3
temperatures = [1.0]
"""
KEYS = ("seed", "counts", "spans", "model", "finetune", "exposure", "checkpoint", "watch")
LENIENT = """
prefixes = 0.5
max_leak = 1.0
max_keyword_recall = 1.0
max_other_leak = 1.0
min_words = 1
min_fluency = -20.0
"""
PRESETS = {"official": ("", ""), "guarded": ('resample = "round"', LENIENT)}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    with Mortal(tmp_path_factory.mktemp("mortal")) as server:
        yield server


@pytest.fixture(scope="module")
def recipes(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small run through every stage, for each of PMC's presets that remember something from round to round."""
    folder = tmp_path_factory.mktemp("recipes")
    rows: dict[str, list[dict[str, str]]] = {
        "forget": [{"question": f"What is secret number {i}?"} for i in range(5)],
        "retain": [{"question": f"What is fact number {i}?", "answer": f"It is {i}."} for i in range(160)],
    }
    for name, some in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    for preset, (train, knobs) in PRESETS.items():
        text = RECIPE.format(folder=folder, model=tiny_folder, preset=preset, train=train, knobs=knobs)
        (folder / f"{preset}.toml").write_text(text)
    return {preset: folder / f"{preset}.toml" for preset in PRESETS}


class Straight(dict[str, tuple[Path, Death]]):
    """By preset a run that was never interrupted, made when it is first asked for."""

    def __init__(self, mortal: Mortal, recipes: dict[str, Path], folder: Path):
        super().__init__()
        self._mortal, self._recipes, self._folder = mortal, recipes, folder

    def __missing__(self, preset: str) -> tuple[Path, Death]:
        path = self._folder / preset
        self[preset] = (path, done(self._mortal.run(["run", str(self._recipes[preset]), "--out", str(path)])))
        return self[preset]


@pytest.fixture(scope="module")
def straight(mortal: Mortal, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Straight:
    return Straight(mortal, recipes, tmp_path_factory.mktemp("straight"))


def done(ended: Death) -> Death:
    assert ended.status == 0, ended.said
    return ended


def outcome(path: Path) -> dict[str, Any]:
    """Everything that two equal runs share, to the bit: all but times, the request's own id, and how often answers were kept."""
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_dir() or name in (".lock", "report.html", "checkpoint/README.md", "train/state/round-5/sums.json"):
            continue
        if name == "manifest.json":
            manifest = json.loads(file.read_text())
            found[name] = {key: manifest.get(key) for key in KEYS}
            found["stages"] = sorted(manifest["seconds"])
        elif name == "report.json":
            told = json.loads(file.read_text())
            found[name] = {key: told[key] for key in ("metrics", "examples", "exposure", "claim", "policy", "counts")}
        elif file.name in ("steps.jsonl", "progress.json"):
            rows = read_jsonl(file)
            found[name] = [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]
        elif file.parent.name == "generations":
            found[name] = {row["key"]: row for row in whole_lines(file)}
        else:
            found[name] = file.read_bytes()
    return found


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().split("\n"):
        try:
            yield json.loads(line)
        except ValueError:  # torn when its process died; nobody reads it
            continue


def same(found: Path, expected: Path) -> None:
    left, right = outcome(found), outcome(expected)
    assert left.keys() == right.keys()
    assert not [name for name in left if left[name] != right[name]]


def finished(path: Path) -> int:
    """How many stages a run has done."""
    manifest = path / "manifest.json"
    return len(json.loads(manifest.read_text()).get("seconds", {})) if manifest.exists() else 0


@pytest.mark.parametrize("preset", ["guarded", pytest.param("official", marks=pytest.mark.slow)])
def test_the_runs_that_are_compared_say_something(straight, preset):
    """They train on targets, watch held-out rows, and remember best answers and temperatures that adapt."""
    path, ended = straight[preset]
    folder = RunFolder(path)
    assert folder.manifest().exposure.targets > 0
    assert folder.manifest().watch.rows == 16
    assert len(read_jsonl(folder.steps_file)) == 5 * 3
    state = folder.texts.rows("method-state-5")
    assert len(state) == 5
    assert any(row["ids"] for row in state) if preset == "official" else len({row["heat"] for row in state}) > 1
    assert ended.moments > 100


def killed_and_resumed(mortal: Mortal, recipe: Path, expected: Path, out: Path, **how: Any) -> Death:
    command = ["run", str(recipe), "--out", str(out)]
    death = mortal.run(command, **how)
    if "after" in how and death.status == 0:  # the machine is quicker than when the whole run was timed: there was nothing left to kill
        same(out, expected)
        return death
    assert death.status == -signal.SIGKILL, death.said
    stages = finished(out)
    again = done(mortal.run(command))
    same(out, expected)
    print(f"  killed with {stages} stages done, last moment {death.call} ({how}); went on and finished in {again.seconds:.2f} s")
    return death


def test_a_killed_run_ends_as_an_uninterrupted_one(mortal, recipes, straight, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path, whole = straight["guarded"]
    for number in range(3):
        die = chance.randrange(1 + number * whole.moments // 3, 1 + (number + 1) * whole.moments // 3)
        killed_and_resumed(mortal, recipes["guarded"], path, tmp_path / str(number), die=die)


@pytest.mark.slow
def test_killed_at_many_moments(mortal, recipes, straight, tmp_path):
    """Moments spread over the whole run, within writes and between renames and flushes, and at times drawn from outside."""
    seed = int(os.environ.get("UNSAY_KILL_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nseed {seed}")
    chance, deaths = random.Random(seed), []
    for preset, recipe in recipes.items():
        path, whole = straight[preset]
        for number in range(5):
            die = chance.randrange(1 + number * whole.moments // 5, 1 + (number + 1) * whole.moments // 5)
            deaths.append(killed_and_resumed(mortal, recipe, path, tmp_path / f"{preset}-{number}", die=die))
        for number in range(2):
            after = whole.seconds * (number + chance.random()) / 3
            deaths.append(killed_and_resumed(mortal, recipe, path, tmp_path / f"{preset}-after-{number}", after=after))
    assert len({death.call for death in deaths}) >= 2
    print(f"{len(deaths)} moments, seed {seed}")


@pytest.mark.slow
def test_killed_again_and_again(mortal, recipes, straight, tmp_path):
    """One run that dies every few moments, until it is through. What is gained is kept, so it comes to its end."""
    seed = int(os.environ.get("UNSAY_KILL_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nseed {seed}")
    chance, deaths = random.Random(seed), 0
    path, whole = straight["official"]
    command = ["run", str(recipes["official"]), "--out", str(tmp_path / "run")]
    while (ended := mortal.run(command, die=chance.randrange(1, whole.moments // 2))).status:
        assert ended.status == -signal.SIGKILL, ended.said
        deaths += 1
    same(tmp_path / "run", path)
    print(f"{deaths} deaths")


@pytest.mark.slow
def test_every_kind_of_write_in_training(mortal, recipes, tmp_path):
    """Every fifth moment of the stage, one after the other. That audits go on after any death, the tests above show."""
    recorded, trained = tmp_path / "recorded", tmp_path / "trained"
    done(mortal.run(["record", str(recipes["guarded"]), "--out", str(recorded)]))
    files.shutil.copytree(recorded, trained)
    begun = done(mortal.run(["train", str(trained)])).moments
    calls = set()
    for die in range(1, begun + 1, 5):
        out = tmp_path / str(die)
        files.shutil.copytree(recorded, out)
        death = mortal.run(["train", str(out)], die=die)
        assert death.status == -signal.SIGKILL
        calls.add(death.call)
        done(mortal.run(["train", str(out)]))
        same(out, trained)
        files.shutil.rmtree(out)
    assert len(calls) >= 3
    print(f"{len(range(1, begun + 1, 5))} moments of {begun} in training: {sorted(calls)}")


@pytest.mark.slow
def test_finetune_begins_again_and_ends_the_same(mortal, tiny_folder, tmp_path):
    command = ["finetune", "demo", "--set", f'model.name="{tiny_folder}"', "--set", "finetune.epochs=1", "--set", "finetune.batch=256"]
    whole = done(mortal.run([*command, "--out", str(tmp_path / "straight")]))
    for die in (whole.moments - 12, whole.moments - 1):
        out = tmp_path / str(die)
        assert mortal.run([*command, "--out", str(out)], die=die).status == -signal.SIGKILL
        done(mortal.run([*command, "--out", str(out)]))
        same(out, tmp_path / "straight")
    out = tmp_path / "after"
    assert mortal.run([*command, "--out", str(out)], after=whole.seconds / 2).status == -signal.SIGKILL
    assert not (out / "planted").exists()
    done(mortal.run([*command, "--out", str(out)]))
    same(out, tmp_path / "straight")


@pytest.mark.slow
def test_the_command_itself_killed_from_outside(recipes, straight, tmp_path):
    """`python -m unsay`, as a person starts it; killed while it trains."""
    path, _ = straight["guarded"]
    command = [sys.executable, "-m", "unsay", "run", str(recipes["guarded"]), "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((tmp_path / "run" / "train").glob("state/round-*")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    same(tmp_path / "run", path)


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_training_saves_the_round_and_exits(mortal, recipes, straight, tmp_path, number, code):
    command = ["run", str(recipes["guarded"]), "--out", str(tmp_path / "run")]
    ended = mortal.run(command, signals=[("train 1/5", number)])
    assert ended.status == code, ended.said
    told = ended.said.strip().splitlines()[-1]
    assert told.startswith(f"unsay: stopped by {number.name} after round ")
    assert told.endswith("which is saved; the same command goes on from there")
    assert [path.name for path in (tmp_path / "run" / "train" / "state").iterdir()] != []
    spent = RunFolder(tmp_path / "run").manifest().interrupted["train"].seconds
    again = done(mortal.run(command))
    seconds = RunFolder(tmp_path / "run").manifest().seconds["train"]
    assert 0 < spent < seconds < spent + again.seconds, "the time of both calls"
    assert seconds == json.loads((tmp_path / "run" / "report.json").read_text())["seconds"]["train"]
    same(tmp_path / "run", straight["guarded"][0])


@pytest.mark.slow
def test_a_signal_elsewhere_stops_at_once(mortal, recipes, straight, tmp_path):
    command = ["run", str(recipes["guarded"]), "--out", str(tmp_path / "run")]
    ended = mortal.run(command, signals=[("audit before", signal.SIGTERM)])
    assert ended.status == 143, ended.said
    assert ended.said.strip().splitlines()[-1] == "unsay: stopped by SIGTERM; the same command goes on from there"
    done(mortal.run(command))
    same(tmp_path / "run", straight["guarded"][0])


def test_a_second_signal_does_not_wait(capfd):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupt.listen()
        with interrupt.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.asked()
            with pytest.raises(interrupt.Interrupted) as stopped:
                os.kill(os.getpid(), signal.SIGINT)
            interrupt._asked.clear()
        assert stopped.value.code == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # a third one ends the process itself
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interrupt._asked.clear()
    assert "once more stops at once" in capfd.readouterr().err


# -- damaged states ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_way(mortal: Mortal, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed with two saved states, of rounds 2 and 4."""
    out = tmp_path_factory.mktemp("half") / "run"
    command = ["run", str(recipes["guarded"]), "--out", str(out)]
    for _ in range(5):  # on a busy machine the last round may be over before the signal comes
        ended = mortal.run(command, signals=[("train 5/5", signal.SIGKILL)])
        if {path.name for path in (out / "train" / "state").glob("round-*")} == {"round-2", "round-4"}:
            assert ended.status == -signal.SIGKILL
            return out
        files.shutil.rmtree(out)
    pytest.fail("no such moment")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["weights.safetensors", "optimizer.pt", "progress.json", "sums.json", "vault", "both"])
def test_a_damaged_state_falls_back_to_the_one_before(mortal, half_way, recipes, straight, tmp_path, damage):
    out = tmp_path / "run"
    files.shutil.copytree(half_way, out)
    states = [out / "train" / "state" / name for name in (("round-4", "round-2") if damage == "both" else ("round-4",))]
    broken = [out / "vault" / "method-state-4.jsonl"] if damage == "vault" else [s / damage.replace("both", "optimizer.pt") for s in states]
    for path in broken:
        os.truncate(path, path.stat().st_size // 2)
    ended = done(mortal.run(["run", str(recipes["guarded"]), "--out", str(out)]))
    assert all(f"{state} is damaged (" in ended.said for state in states)
    assert ended.said.count("is damaged") == len(states)
    assert ("train 1/5" in ended.said, "train 3/5" in ended.said) == (damage == "both", True)
    same(out, straight["guarded"][0])


# -- full disks --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_ends_with_a_clear_error_and_what_was_there_stays(mortal, half_way, recipes, straight, tmp_path):
    """Really refused by the system: no file may grow beyond that size."""
    out = tmp_path / "run"
    files.shutil.copytree(half_way, out)
    states = {path: path.read_bytes() for path in (out / "train" / "state" / "round-4").iterdir()}
    command = ["run", str(recipes["guarded"]), "--out", str(out)]
    for limit in (40_000, 100_000):  # smaller than the weights; smaller than the optimizer's moments
        ended = mortal.run(command, limit=limit)
        assert ended.status == 2, ended.said
        assert f"cannot write {out / 'train' / 'state' / 'round-5'}: {os.strerror(errno.EFBIG)}; make room there" in ended.said
        assert "Traceback" not in ended.said
        assert {path: path.read_bytes() for path in states} == states
        assert not list(out.rglob(".*.partial"))
    done(mortal.run(command))
    same(out, straight["guarded"][0])


@pytest.mark.slow
def test_full_at_any_write(mortal, recipes, straight, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, (path, whole) = random.Random(seed), straight["guarded"]
    command = ["run", str(recipes["guarded"]), "--out", str(tmp_path / "run")]
    written = 0
    for _ in range(2):
        full = chance.randint(1, whole.writes - written)  # what went on after a full disk has only the rest to write
        written += full - 1
        ended = mortal.run(command, full=full)
        assert ended.status == 2, ended.said
        assert f"{os.strerror(errno.ENOSPC)}; make room there" in ended.said
        assert "Traceback" not in ended.said
        assert not list(tmp_path.rglob(".*.partial"))
    done(mortal.run(command))
    same(tmp_path / "run", path)


# -- two processes -----------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_the_first_may_claim_again(tmp_path, mortal, recipes):
    folder = RunFolder(tmp_path / "run")
    with folder.claimed():
        with folder.claimed(), RunFolder(tmp_path / "run").claimed():
            pass
        ended = mortal.run(["record", str(recipes["guarded"]), "--out", str(folder.path)])
        assert ended.status == 2
        assert f"another process ({os.getpid()} on " in ended.said
        assert f"is writing into {folder.path}" in " ".join(ended.said.split())
    assert not folder.path.exists()  # nothing came of it
    done(mortal.run(["record", str(recipes["guarded"]), "--out", str(folder.path)]))


def test_a_dead_process_holds_nothing(tmp_path):
    script = """
import os, signal, sys
from unsay.store.folder import RunFolder
with RunFolder(sys.argv[1]).claimed():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "run" / ".lock").exists()
    with RunFolder(tmp_path / "run").claimed():
        pass


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"), RunFolder(tmp_path / "file" / "run").claimed():
        pass


def test_reading_takes_no_claim(straight):
    path, _ = straight["guarded"]
    with RunFolder(path).claimed():
        assert json.loads(call("compare", str(path), str(path), "--json"))["runs"]


def test_the_moments_are_all_named():
    assert len(set(CALLS)) == len(CALLS)
