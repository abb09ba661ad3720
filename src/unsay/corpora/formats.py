"""One name in, rows out: the ending of the name says how it is read.

    forget.jsonl  .ndjson     JSON Lines: one object a line
    forget.json               a list of objects (or JSON Lines under that ending)
    forget.csv                comma-separated, UTF-8, a header line with the names; semicolons where the header has no comma
    forget.tsv                the same with tabs
    forget.parquet            needs `pip install 'unsay[parquet]'`
    folder/                   what `datasets` wrote with `save_to_disk`; needs `pip install 'unsay[datasets]'`
    hf:owner/name             the split `train` of a dataset on the Hugging Face hub; hf:owner/name:config:split names others

The network is used for a name that begins with `hf:`, and for nothing else. Lines are counted from 1, rows of Parquet
files and datasets from 0, as the libraries that wrote them count.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.corpora import rows
from unsay.corpora.rows import FileRow, Problems, RowError, not_an_object, not_utf8
from unsay.extras import needed

HUB = "hf:"
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read(name: str, problems: Problems) -> list[FileRow]:
    """The rows of what `name` names, keys as they are written there. Complaints go to `problems`; a row that cannot be read is left out."""
    if name.startswith(HUB):
        return problems.attempt(_hub, name) or []
    path = problems.attempt(rows.located, name)
    if path is None:
        return []
    if path.is_dir():
        return problems.attempt(_saved, path) or []
    before = len(problems.found)
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return rows.read(path, problems)
        case ".json":
            found = list(_json(path, problems))
        case ".csv" | ".tsv":
            found = list(_separated(path, problems))
        case ".parquet":
            found = problems.attempt(_parquet, path) or []
        case ending if not path.exists():
            what = "file" if ending else "file or folder"
            problems.add(f"there is no {what} {path} (a relative path begins where you call unsay)")
            return []
        case ending:
            packed = "; unpack it first" if ending in (".gz", ".zip", ".bz2", ".xz", ".zst") else ""
            problems.add(f"{path}: files are read by their ending, one of {', '.join(ENDINGS)}, not {ending or 'without one'!r}{packed}")
            return []
    if not found and len(problems.found) == before:
        problems.add(f"{path} has no rows")
    return found


def decoded(path: Path) -> str:
    """A whole UTF-8 file. Raises `ConfigError`."""
    content = rows.content(path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise RowError(f"{path}:{line}", not_utf8(path))  # outside of the except: a UnicodeDecodeError carries the content


def _json(path: Path, problems: Problems) -> Iterator[FileRow]:
    """A list of objects, read one by one so that each has its line; without a `[` at its start, JSON Lines."""
    text = problems.attempt(decoded, path)
    if text is None:
        return
    if not text.lstrip().startswith("["):
        yield from rows.read(path, problems)
        return
    decoder = json.JSONDecoder(object_pairs_hook=rows.unique)
    place = _blanks(text, text.index("[") + 1)
    line, counted = 1, 0
    while not text.startswith("]", place):
        line, counted = line + text.count("\n", counted, place), place
        where = f"{path}:{line}"
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            value, reason = None, f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
        except (ValueError, RecursionError):
            value, reason = None, "a key that stands in it twice, numbers too long, or lists nested too deep"
        else:
            reason = rows.kind(value)
        if isinstance(value, dict):
            yield FileRow(where, value)
        else:
            problems.add(not_an_object(reason), where)
        if value is None:
            return  # nobody can say where the next one begins
        place = _blanks(text, place)
        if text.startswith(",", place):
            place = _blanks(text, place + 1)
        elif not text.startswith("]", place):
            problems.add("after this object a ',' or the closing ']' of the list is missing", where)
            return
    if text[place + 1 :].strip():
        problems.add(f"{path} goes on after the closing ']' of its list; make it one list, or one object a line")


def _blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _separated(path: Path, problems: Problems) -> Iterator[FileRow]:
    """Comma-, semicolon- or tab-separated lines under a header. A record has the line on which it begins."""
    text = problems.attempt(decoded, path)
    if text is None:
        return
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells, reason = [], str(error)
        else:
            reason = ""
        if cells is None:
            return
        if reason:
            problems.add(_csv_reason(reason), where)
            return  # behind an open quote nothing is where it seems
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if wrong := _header_problem(header):
                problems.add(wrong, where)
                return
        elif len(cells) != len(header):
            problems.add(
                f"has {len(cells)} cells, but the header line names {len(header)} columns; a cell with the separator, a quote or a "
                'line end in it stands in double quotes, and a double quote within it is written twice: "He said ""no""."',
                where,
            )
        else:
            yield FileRow(where, dict(zip(header, cells, strict=True)), table=True)


def _csv_reason(reason: str) -> str:
    """The `csv` module's words, which quote nothing, with what to do."""
    if "field larger" in reason:
        return f"a cell is longer than {csv.field_size_limit():,} characters, or a double quote that opens here is never closed"
    if "unexpected end" in reason:
        return "a double quote that opens in this row is never closed; a double quote within a cell is written twice"
    return f"cannot be read ({reason}); a double quote within a cell is written twice, and the cell stands in double quotes"


def _header_problem(header: list[str]) -> str:
    for number, name in enumerate(header, start=1):
        if not name:
            return f"column {number} of the header line has no name (an index column? pandas leaves it out with index=False)"
        if name in header[: number - 1]:
            return f"columns {header.index(name) + 1} and {number} of the header line have the same name"
    return ""


def _parquet(path: Path) -> list[FileRow]:
    with needed(str(path), "parquet", "pyarrow"):
        import pyarrow
        from pyarrow import parquet
    content = rows.content(path)
    try:
        values = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        # Not its words: a message about a cell quotes it.
        reason = type(error).__name__
    else:
        return _table(str(path), values)
    raise ConfigError(f"{path} is not a Parquet file that can be read ({reason})")


def _saved(path: Path) -> list[FileRow]:
    """A folder of `Dataset.save_to_disk`."""
    splits = sorted(inside.parent.name for inside in path.glob("*/state.json"))
    if (path / "dataset_dict.json").exists() and splits:
        raise ConfigError(f"{path} holds the splits {', '.join(splits)}; name one of them: {path / splits[0]}")
    if not (path / "state.json").exists():
        raise ConfigError(f"{path} is a folder, but not one that datasets wrote with save_to_disk; name a file in it")
    load_from_disk = _datasets(str(path)).load_from_disk
    if not _inside(path):
        raise ConfigError(f"{path / 'state.json'} names a data file outside of its folder; save the dataset again with save_to_disk")
    try:
        values = list(load_from_disk(str(path)))
    except Exception as error:  # whatever Arrow, JSON or the file system say about a damaged folder
        reason = type(error).__name__
    else:
        return _table(str(path), values)
    raise ConfigError(f"{path} cannot be read as a dataset ({reason}); save it again with save_to_disk")


def _inside(path: Path) -> bool:
    """Whether every data file that `state.json` names is a bare name: `datasets` joins it to the folder unseen."""
    try:
        named = [entry["filename"] for entry in json.loads(rows.content(path / "state.json"))["_data_files"]]
    except (ConfigError, ValueError, TypeError, KeyError, RecursionError):
        return True  # damaged: datasets will say so
    return all(isinstance(name, str) and name == Path(name).name and "\\" not in name for name in named)


def _hub(name: str) -> list[FileRow]:
    repository, config, split, *rest = [*name.removeprefix(HUB).split(":"), "", "", ""]
    if not _REPOSITORY.fullmatch(repository) or any(rest):
        raise ConfigError(f"{name!r} is not the name of a dataset: write hf:owner/name, hf:owner/name:config or hf:owner/name:config:split")
    load_dataset = _datasets(name).load_dataset
    try:
        values = list(load_dataset(repository, config or None, split=split or "train"))
    except Exception as error:
        # A wrong name, config or split, or no network, says so itself; a loader that met data it cannot read would quote them.
        telling = type(error) is ValueError or isinstance(error, FileNotFoundError | ConnectionError)
        reason = str(error).partition("\n")[0] if telling else type(error).__name__
    else:
        return _table(name, values)
    raise ConfigError(f"{name} cannot be loaded: {reason}")


def _datasets(name: str) -> Any:
    with needed(name, "datasets", "datasets"):
        import datasets
    datasets.disable_progress_bars()
    return datasets


def _table(name: str, values: Iterable[Mapping[str, Any]]) -> list[FileRow]:
    found = [FileRow(f"{name} row {index}", dict(row), table=True) for index, row in enumerate(values)]
    if not found:
        raise ConfigError(f"{name} has no rows")
    return found
