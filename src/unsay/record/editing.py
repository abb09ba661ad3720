"""The sensitive spans in an editor: a TOML file for as long as it is open, in the run's own vault, and gone afterwards.

    ["forget-000"]
    # question: Where does Ada live?
    # answer:   She lives in Turin, near the green lighthouse.
    spans = ["Turin"]
    rare = ["lighthouse"]
    strings = []

It is TOML and not the vault's JSON lines because a person reads and writes it. Nothing of it counts before the whole file is sound.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unsay.config import ConfigError
from unsay.config.toml import as_toml, flat, parse
from unsay.corpora.rows import FileRow
from unsay.record import annotation
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.types import Example

_HEAD = """# Keep in "spans" what is sensitive, word for word as in the answer, and take out what is not.
# Words in "rare" count once you move them into "spans". What must never be said at all goes into "strings".
# Save and close to take it over; close unchanged to leave all as it is. The file is yours alone to read, and is removed afterwards.
"""
_CORRECTED = ("spans", "rare", "strings")


def edit(
    folder: RunFolder,
    examples: Sequence[Example],
    answers: Mapping[str, str],
    open_in_editor: Callable[[Path], None],
    try_again: Callable[[ConfigError], bool],
) -> bool:
    """Let the operator correct the spans, and say whether they did. A file that is not as it should be is opened once more where
    `try_again` says so; else `ConfigError` is raised, and the spans stay as they were."""
    annotation.refuse_settled(folder)
    rows = [row.values for row in annotation.lines(folder)]
    folder.looked("spans", plain=folder.texts.encrypted)  # first: no readable copy goes uncounted
    # Called so that `tidy` removes it where this process dies.
    with TemporaryDirectory(dir=folder.vault, prefix=".spans-", suffix=".partial") as place:
        path, text = Path(place) / "spans.toml", _HEAD + "".join(map(_block, rows))
        write_text(path, text, mode=0o600)
        while True:
            open_in_editor(path)
            if path.exists() and path.read_bytes() == text.encode():
                return False
            try:
                annotation.take(folder, path, _read(path, rows), examples, answers)
                return True
            except ConfigError as error:
                if not try_again(error):
                    raise


def _block(row: Mapping[str, Any]) -> str:
    shown = {"question": row["question"], "answer": row["answer"]}
    comments = "".join(f"# {key + ':':9} {_comment(text)}\n" for key, text in shown.items())
    return f"\n[{as_toml(str(row['id']))}]\n{comments}{flat({key: row.get(key, ()) for key in _CORRECTED})}"


def _comment(text: str) -> str:
    """A text on lines of a comment, which may hold no control character."""
    lines = (re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\ufffd", line) for line in text.splitlines())
    return "\n#           ".join(lines)


def _read(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[FileRow]:
    """What the operator wrote, as rows of the vault's file. Raises `ConfigError`, and never quotes a text."""
    kept = {str(row["id"]): {"id": row["id"], "question": row["question"], "answer": row["answer"]} for row in rows}
    found = []
    for key, table in parse(path, f"{path} is gone; the spans stay as they are").items():
        row = FileRow(f"{path.name}, [{key}]" if key in kept else path.name, kept.get(key, {"id": key}))
        if key not in kept:
            raise row.error("a table is not called like a question of this run; put its name back")
        if not isinstance(table, dict) or table.keys() & kept[key]:
            raise row.error(f"holds something else than {', '.join(_CORRECTED)}; put it back as it was")
        found.append(FileRow(row.where, {**row.values, **table}))
    return found
