"""From rows as they were written to rows with our keys: other people's names, empty cells, lists in cells, conversations.

    files.columns = { question = "prompt", answer = "completion" }     the column "prompt" holds the question
    files.ignore = ["source", "difficulty"]                            columns that stay unread; ["*"] leaves all others unread
    {"messages": [{"role": "user", "content": "…"}]}                   one user turn is the question; in a retain row one
                                                                       assistant turn after it is the answer

A system message belongs to the model, not to a row: every stage sends the same one, `model.system_prompt`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unsay.config import ConfigError
from unsay.config.build import one_of
from unsay.corpora import cutting, rows
from unsay.corpora.rows import FileRow, Problems, among, nameable
from unsay.tables import near

KEYS = ("question", "answer", "id", "paraphrases", "strings", "patterns", "group", "messages")
EVERY = (*KEYS, *cutting.KEYS)
"""With those of texts."""
LISTS = ("paraphrases", "strings", "patterns")
SYSTEM = ("refuse", "drop")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Layout:
    """How the files name things."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our key → their column."""
    ignore: tuple[str, ...] = ()
    system_messages: str = "refuse"
    table: str = "files"
    """Of the recipe, for messages."""

    def __post_init__(self) -> None:
        for key, column in self.columns.items():
            if key not in EVERY:
                raise ConfigError(f"{self.table}.columns has an unknown key {key!r}: {near(key, EVERY)}")
            if column in self.ignore:
                raise ConfigError(
                    f"{self.table}.columns.{key} names a column that {self.table}.ignore leaves unread; take it out of one of the two"
                )
        if len(set(self.columns.values())) < len(self.columns):
            raise ConfigError(f"{self.table}.columns names one column for two keys")
        one_of(f"{self.table}.system_messages", self.system_messages, SYSTEM)

    def apply(
        self, name: str, found: Iterable[FileRow], known: Iterable[str], required: Iterable[str], problems: Problems
    ) -> list[FileRow]:
        """The rows of the file `name` with our keys. What holds for a whole column is said once, not once a row."""
        found, known = list(found), {*known, "messages"}
        theirs = dict.fromkeys(key for row in found for key in row.values if key not in self.ignore)
        renamed = {column: key for key, column in self.columns.items() if column in theirs}
        ours = {renamed.get(key, key) for key in theirs}
        for column, key in renamed.items():
            if key in theirs and key not in renamed:
                beside = f"{name} has a column {key!r} beside the {column!r} of {self.table}.columns.{key}"
                problems.add(f"{beside}; put one of them into {self.table}.ignore")
        if found and "messages" not in ours:
            missing = [key for key in required if key not in ours and (key in self.columns or found[0].table)]
            for key in missing:
                problems.add(self._missing(name, key, theirs))
            if missing:
                return []
        unknown = [key for key in theirs if renamed.get(key, key) not in {*known, "answer"}]
        if found and found[0].table and unknown and "*" not in self.ignore:
            shown = f" {unknown[0]!r}" if nameable(theirs) else ""
            way_out = f"map it with {self.table}.columns, or put it into {self.table}.ignore"
            problems.add(f"{name} has an unknown column{shown}; known: {', '.join(sorted(known))}; {way_out}")
        drop_unknown = "*" in self.ignore or bool(found and found[0].table)
        needed = frozenset(required)
        mapped = (problems.attempt(self._row, row, renamed, needed, drop_unknown) for row in found)
        return [row for row in mapped if row is not None]

    def _missing(self, name: str, key: str, theirs: Mapping[str, Any]) -> str:
        if key in self.columns:
            return f"{name} has no column {self.columns[key]!r}, which {self.table}.columns.{key} names{among(self.columns[key], theirs)}"
        headless = "" if nameable(theirs) else "; its first line does not look like a header line of names"
        return f"{name} has no column {key!r}{among(key, theirs)}{headless}; map yours: --set {self.table}.columns.{key}=NAME"

    def _row(self, row: FileRow, renamed: Mapping[str, str], needed: frozenset[str], drop_unknown: bool) -> FileRow:
        values: dict[str, Any] = {}
        empty: dict[str, Any] = {}
        for column, value in row.values.items():
            key = renamed.get(column, column)
            if column in self.ignore or (drop_unknown and key not in EVERY):
                continue
            if value is None or (row.table and isinstance(value, str) and not value.strip()):
                empty |= {key: value} if key in needed else {}
            else:
                values[key] = _cell(row, key, value) if row.table else value
        if "messages" in values:
            return self._turns(replace(row, values=values))
        values |= empty  # what is needed is said to be empty, not to be missing
        return row if values == row.values else replace(row, values=values)

    def _turns(self, row: FileRow) -> FileRow:
        """A conversation of one question as a row with `question`, and `answer` where it has one. Raises `ConfigError`."""
        for key in ("question", "answer"):
            if key in row.values:
                raise row.error(f"has 'messages' and {key!r}; keep one of the two")
        messages = row.values["messages"]
        if not isinstance(messages, list | tuple) or not messages:
            raise row.error('\'messages\' must be a list of turns, for example [{"role": "user", "content": "…"}]')
        said: list[tuple[str, str]] = []
        for number, turn in enumerate(messages, start=1):
            if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
                raise row.error(f"turn {number} of 'messages' must have a 'role', one of {', '.join(_ROLES)}, and a 'content'")
            if any(value is not None for key, value in turn.items() if key not in ("role", "content")):
                raise row.error(
                    f"turn {number} of 'messages' has more than 'role' and 'content'; tool calls, names and pictures are not read"
                )
            content = turn.get("content")
            if not isinstance(content, str) or not content.strip():
                raise row.error(f"turn {number} of 'messages': 'content' must be a text that is not empty")
            said.append((turn["role"], content))
        if said[0][0] == "system":
            if self.system_messages == "refuse":
                raise row.error(
                    "has a system message, but one system message holds for the whole run: set model.system_prompt to it, "
                    f"and --set {self.table}.system_messages=drop to leave the ones in the rows unread"
                )
            said = said[1:]
        roles = [role for role, _ in said]
        if roles not in (["user"], ["user", "assistant"]):
            raise row.error(
                f"has the turns {', '.join(roles) or 'none but a system message'}; what is supported is one user turn, and in a retain "
                "row one assistant turn after it. Give each question its own row, with what it needs to be understood"
            )
        values = {key: value for key, value in row.values.items() if key != "messages"}
        return replace(row, values=values | dict(zip(("question", "answer"), (text for _, text in said), strict=False)), chat=True)


def _cell(row: FileRow, key: str, value: Any) -> Any:
    """A cell of a table: a list may be a JSON list, or one text; a pattern that begins with `[` is a text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if key == "messages" or (key in LISTS and (text.startswith('["') or text == "[]")):
        try:
            return rows.parse(row.where, text)
        except ConfigError:
            pass
        raise row.error(f'the cell {key!r} begins like a JSON list but is none; for example ["one", "two"], or one text as it is')
    return [value] if key in LISTS else value
