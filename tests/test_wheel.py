"""The wheel, built here, runs the demo in an environment and a folder that hold nothing else of ours."""

import doctest
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.test_cli import SMALL

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed")
def test_readme_works_on_a_package_index() -> None:
    import hatch_build

    assert doctest.testmod(hatch_build) == (0, 1)
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    text, made = hatch_build.absolute(written, "https://example.org/unsay")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert all(link.startswith("https://") for link in links)
    ours = [link.partition("/main/")[2] for link in links if link.startswith("https://example.org/")]
    assert made == len(ours) > 20
    assert all((ROOT / path).exists() for path in ours)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("build", "hatchling")), reason="build or hatchling is not installed"
)
def test_a_wheel_runs_the_demo(tmp_path: Path):
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("unsay-*.whl")
    venv, folder = tmp_path / "venv", tmp_path / "empty"
    folder.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # The dependencies as they are installed here, behind the wheel: a plain path runs no .pth file, so no editable unsay comes along.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert Path(run(python, "-c", "import unsay; print(unsay.__file__)", cwd=folder).strip()).is_relative_to(site)
    run(venv / "bin" / "unsay", "demo", "--out", "demo", *SMALL, cwd=folder)
    assert "<html" in (folder / "demo" / "report.html").read_text()
    assert "--world" in run(python, "-m", "unsay.build_people", "--help", cwd=folder)
