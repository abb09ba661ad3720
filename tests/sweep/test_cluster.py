"""A sweep on a Slurm cluster, with `sbatch` and `srun` made up: the scripts are checked, and their jobs run here as processes."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="the extra `sweep` is not installed")

from tests.sweep.conftest import scores, told

SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path

place, script = Path({place!r}), Path(sys.argv[-1])
text = script.read_text()
flags = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.+)$", text, re.M))
wrong = [f"{{key}} = {{flags.get(key)}}, not {{value}}" for key, value in {wanted!r}.items() if flags.get(key) != value]
wrong += [] if text.startswith("#!/bin/bash") and "srun " in text else ["no script that calls srun"]
if wrong:
    sys.exit("; ".join(wrong))
number = str(1 + len(list(place.glob("job-*"))))
ids = dict(JOB_ID=number, NTASKS="1", JOB_NUM_NODES="1", NODEID="0", PROCID="0", LOCALID="0")
job = subprocess.Popen(
    ["bash", str(script)], env=os.environ | {{f"SLURM_{{key}}": value for key, value in ids.items()}}, start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=(place / f"out-{{number}}").open("w"), stderr=subprocess.STDOUT,
)
(place / f"job-{{number}}").write_text(str(job.pid))
print(f"Submitted batch job {{number}}")
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a file for every job, which holds its process group."""
    place, programs = tmp_path / "cluster", tmp_path / "programs"
    wanted = {"partition": "gpu", "mem": "2GB", "job-name": "unsay-sweep", "nodes": "1"}
    for folder in (place, programs):
        folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(python=sys.executable, place=str(place), wanted=wanted)), ("srun", SRUN)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    yield place
    for job in place.glob("job-*"):
        _kill(job)


def _kill(job: Path) -> None:
    with suppress(ProcessLookupError):
        os.killpg(int(job.read_text()), signal.SIGKILL)


def submitted(file: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unsay", "sweep", str(file), "--out", str(out), "--cluster", "slurm", "--slurm", "mem_gb=2", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def waited(done: Callable[[], object], seconds: float = 300.0) -> bool:
    """Whether it came true in time; as often as needed, however busy the machine is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.2)
    return False


def complete(out: Path) -> bool:
    return sorted((place, one.get("state")) for place, one in told(out).items()) == [("gd/000", "complete"), ("idle/000", "complete")]


@pytest.mark.slow
def test_a_lost_workers_configuration_is_taken_up_by_another(file: Path, finished: Path, cluster: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = submitted(file, out, "--slurm", "slurm_partition=gpu")
    assert first.returncode == 0, first.stderr
    assert waited(lambda: list(out.glob("gd/*/trial.json"))), "the first job begins"
    _kill(cluster / "job-1")
    assert not complete(out)
    more = submitted(file, out, "--workers", "2", "--slurm", "slurm_partition=gpu")
    assert more.returncode == 0, more.stderr
    assert len(list(cluster.glob("job-*"))) == 3
    assert waited(lambda: complete(out)), "\n".join(path.read_text() for path in cluster.glob("out-*"))
    assert scores(out) == scores(finished)


@pytest.mark.slow
def test_workers_of_this_machine_share_what_there_is(file: Path, finished: Path, tmp_path: Path) -> None:
    """submitit's local executor, waited for."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "unsay", "sweep", str(file), "--out", str(out), "--workers", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    logs = [path.read_text() for path in out.glob("jobs/*_log.out")]
    assert len(logs) == 2
    assert [sum(log.count(f"{name} 000: ") > 0 for log in logs) for name in ("gd", "idle")] == [1, 1], "each is run by one of them"
    assert scores(out) == scores(finished)


def test_what_a_cluster_refuses_is_told(file: Path, cluster: Path, tmp_path: Path) -> None:
    said = submitted(file, tmp_path / "out", "--slurm", "slurm_partition=none")
    assert said.returncode == 2
    assert "no worker could be started on slurm" in said.stderr
    assert "partition = none, not gpu" in said.stderr
    assert "Traceback" not in said.stderr
