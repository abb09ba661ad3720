"""Pictures of the pages, as Chromium shows them: the first page of a report on a desktop, on a phone and on paper, and the page over many
runs. Run it again whenever a page has changed. Paper needs pdftoppm (poppler-utils).

    unsay demo --out runs/demo
    python -m scripts.report_picture runs/demo           # docs/report.png, report-phone.png, report-print.png
    python -m scripts.report_picture --view runs         # docs/view.png
"""

import argparse
import base64
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser import CHROMIUM, Chromium
from unsay.report import build
from unsay.store.folder import RunFolder

DOCS = Path(__file__).parents[1] / "docs"
SCREENS = {"report": (1120, 1440), "report-phone": (390, 844)}
"""Width and height in pixels; a desktop shows the first page whole."""
PAPER = 75
"""Dots per inch of the printed page."""
_COLOURS = 64


def save(png: bytes, out: Path) -> None:
    """With few colours: a third of the bytes."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    print(out)


def screen(chromium: Chromium, address: Path | str, size: tuple[int, int], out: Path) -> None:
    width, height = size
    chromium.ask("Emulation.setScrollbarsHidden", hidden=True)
    chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    chromium.open(address)
    save(base64.b64decode(chromium.ask("Page.captureScreenshot", format="png")["data"]), out)


def paper(chromium: Chromium, page: Path, out: Path) -> None:
    chromium.open(page)
    printed = base64.b64decode(chromium.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    first = ["pdftoppm", "-png", "-f", "1", "-l", "1", "-r", str(PAPER), "-"]
    save(subprocess.run(first, input=printed, capture_output=True, check=True).stdout, out)


def view(chromium: Chromium, folder: Path, out: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "unsay", "view", str(folder)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            screen(chromium, server.stdout.readline().strip(), (1120, 640), out)
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished demo; with --view a folder of runs")
    parser.add_argument("--view", action="store_true", help="the page over all runs below the folder")
    parser.add_argument("--out", type=Path, default=DOCS, help="where the pictures go; default docs/")
    given = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("no Chromium here: install chromium")
    with tempfile.TemporaryDirectory() as profile:
        chromium = Chromium(Path(profile))
        try:
            if given.view:
                view(chromium, given.run, given.out / "view.png")
                return
            page = RunFolder(given.run).report_html.resolve()
            build(RunFolder(given.run))
            for name, size in SCREENS.items():
                screen(chromium, page, size, given.out / f"{name}.png")
            paper(chromium, page, given.out / "report-print.png")
        finally:
            chromium.close()


if __name__ == "__main__":
    main()
