"""docs/report.png, the first page of a report, and docs/view.png, a page over many runs, as Chromium shows them. Run it again whenever
a page has changed.

unsay demo --out runs/demo
python scripts/report_picture.py runs/demo
python scripts/report_picture.py --view runs
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from unsay.report import build
from unsay.store.folder import RunFolder

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1120, 1440
"""Of the picture in pixels: the first page, whole."""


def picture(address: str, out: Path, height: int = HEIGHT) -> None:
    """Raises `SystemExit` where there is no Chromium."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("no Chromium here: install chromium")
    with tempfile.TemporaryDirectory() as profile:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        where = [f"--user-data-dir={profile}", f"--window-size={WIDTH},{height}", f"--screenshot={out.resolve()}"]
        subprocess.run([browser, *quiet, *where, address], check=True, timeout=120, capture_output=True)


def view(folder: Path, out: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "unsay", "view", str(folder)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            picture(server.stdout.readline().strip(), out, 640)
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished demo; with --view a folder of runs")
    parser.add_argument("--view", action="store_true", help="the page over all runs below the folder")
    parser.add_argument("--out", type=Path, help="default docs/report.png, or docs/view.png")
    given = parser.parse_args()
    out = given.out or Path(__file__).parents[1] / "docs" / ("view.png" if given.view else "report.png")
    if given.view:
        view(given.run, out)
    else:
        folder = RunFolder(given.run)
        build(folder)
        picture(folder.report_html.resolve().as_uri(), out)
    print(out)


if __name__ == "__main__":
    main()
