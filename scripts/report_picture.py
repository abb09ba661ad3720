"""docs/report.png: the first page of a report, as Chromium shows it. Run it again whenever the page has changed.

unsay demo --out runs/demo
python scripts/report_picture.py runs/demo
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from unsay.report import build
from unsay.store.folder import RunFolder

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1120, 1440
"""Of the picture in pixels: the first page, whole."""


def picture(page: Path, out: Path) -> None:
    """Raises `SystemExit` where there is no Chromium."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("no Chromium here: install chromium")
    with tempfile.TemporaryDirectory() as profile:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        where = [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out.resolve()}"]
        subprocess.run([browser, *quiet, *where, page.resolve().as_uri()], check=True, timeout=120, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished demo")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "report.png")
    given = parser.parse_args()
    folder = RunFolder(given.run)
    build(folder)
    picture(folder.report_html, given.out)
    print(given.out)


if __name__ == "__main__":
    main()
