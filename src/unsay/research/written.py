"""What a comparison leaves: a page, every number as JSON, and pictures. The same numbers give the same bytes."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from unsay.report.pictures import STYLE
from unsay.store.files import write_bytes, write_text


def write(out: Path, name: str, page: str, numbers: Mapping[str, Any], pictures: Mapping[str, Callable[[], Figure]]) -> list[Path]:
    """`name`.md, `name`.json and each picture as .svg and .png, each whole; returns where they lie. Raises `WriteError`."""
    paths = [out / f"{name}.md", out / f"{name}.json"]
    for path, text in zip(paths, (page, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"), strict=True):
        write_text(path, text)
    with matplotlib.rc_context(STYLE):
        for stem, draw in pictures.items():
            figure = draw()
            for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                drawn = io.BytesIO()
                figure.savefig(drawn, format=kind, dpi=200, facecolor="white", metadata=metadata)
                paths.append(out / f"{stem}.{kind}")
                write_bytes(paths[-1], drawn.getvalue())
    return paths


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, whatever stands in its cells."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
