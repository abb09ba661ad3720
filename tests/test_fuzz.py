"""Readers under random input: a valid result or a `ConfigError`, nothing else; short, and without what stands in the input.

Every text that stands for a value carries a marker, which no message may show. Names of keys are no secret, and a policy is
printed in the report, so there the length alone is looked at. The quick profile is the same examples every day; the long one
(`pytest -m slow tests/test_fuzz.py`) is as random as Hypothesis makes it, and its counts stand in docs/reliability.md.
"""

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unsay import config
from unsay.config import ConfigError
from unsay.config.toml import read
from unsay.corpora import formats, rows
from unsay.corpora.checked import examine
from unsay.corpora.columns import KEYS, Layout
from unsay.corpora.files import Files
from unsay.corpora.rows import Problems
from unsay.measure import policy
from unsay.research.front.curves import read as read_front
from unsay.research.sweep.spec import load_sweep
from unsay.tables import METHODS

MARK = "¤"
LONGEST = 1500
"""Characters of one complaint."""
QUICK, LONG = 150, 10_000


def profile(examples: int) -> settings:
    """The quick one draws the same examples each time and keeps none."""
    quick = examples == QUICK
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=quick,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def told(error: BaseException, marked: bool = True) -> None:
    text = str(error)
    assert 0 < len(text) <= LONGEST, len(text)
    text.encode("utf-8", "backslashreplace")
    if marked:
        assert MARK not in text


def refused_or_read(function: Callable[[], Any], marked: bool = True) -> None:
    try:
        function()
    except ConfigError as error:
        told(error, marked)
        seen: BaseException | None = error  # a traceback prints what a complaint came from, too
        while seen is not None and marked:
            assert MARK not in str(seen)
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


# -- what is drawn -------------------------------------------------------------------------------------------------------

letters = st.sampled_from("ab ,;\"\t\n\r[]{}:\\=#'\u2028\0é王🙂\u200f")
marked = st.text(letters, max_size=10).map(MARK.__add__)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**30) | marked | st.just(MARK + "\ud800")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]) | marked, inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*KEYS, "id", "question"])
objects = st.dictionaries(keys, values, max_size=5) | st.dictionaries(keys | marked, values, max_size=3)
good = st.fixed_dictionaries(
    {"question": marked}, optional={"id": st.integers(0, 9), "strings": st.lists(marked, max_size=2), "answer": marked}
)
mixed = st.lists(good, min_size=1, max_size=4) | st.lists(good | objects | values, max_size=4)
jsonl = mixed.map(lambda found: "\n".join(map(json.dumps, found))) | st.lists(good.map(json.dumps) | marked, max_size=4).map("\n".join)
listed = mixed.map(lambda found: json.dumps(found, indent=1))
cells = st.lists(keys | marked, min_size=1, max_size=4)


def table(delimiter: str, header: list[str], body: list[list[str]]) -> str:
    rows = [row[: len(header)] + [""] * (len(header) - len(row)) for row in body]
    return "\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [header, *rows])


delimiters = st.sampled_from([",", ";", "\t"])
separated = st.one_of(
    st.tuples(delimiters, st.lists(cells, max_size=5)).map(lambda drawn: "\n".join(map(drawn[0].join, drawn[1]))),
    st.builds(
        table,
        delimiters,
        st.sampled_from([["question"], ["question", "id", "strings"]]),
        st.lists(st.lists(marked, min_size=1, max_size=3), max_size=3),
    ),
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])


@st.composite
def damaged(draw: st.DrawFn, content: st.SearchStrategy[str]) -> bytes:
    """A text in some encoding, cut open and with a few bytes put in."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8"]) | encodings)
    raw = draw(content).encode(encoding, "backslashreplace" if encoding == "latin-1" else "surrogatepass")
    if draw(st.integers(0, 3)):
        return raw
    place = draw(st.integers(0, len(raw)))
    return raw[:place] + draw(st.just(b"") | st.binary(max_size=3)) + raw[place + draw(st.sampled_from([0, 0, 1, 5])) :]


tables = ["model", "train", "sample", "record", "lora", "audit", "deployment", "finetune", "watch", "report", "files", "pmc", "npo"]
tomls = st.recursive(
    st.sampled_from(["1", "-1", "0", "1.5", "nan", "-inf", "true", "2020-01-01", "0x" + "f" * 20, "1" * 400, "'none'", "[]", "{}", "["])
    | marked.map(json.dumps)
    | st.integers().map(str),
    lambda inner: st.lists(inner, max_size=3).map(lambda found: f"[{', '.join(found)}]") | inner.map(lambda value: f"{{ a = {value} }}"),
    max_leaves=4,
)
knobs = sorted(
    {
        field
        for table in (config.TrainConfig, config.ModelConfig, config.SampleConfig, config.Recipe)
        for field in table.__dataclass_fields__
    }
)
names = st.sampled_from([*knobs, *tables, "band", "probes", "limit", "rank", "columns", "heldout", "preset", "samples"])
toml_lines = st.one_of(
    st.tuples(names | st.text("ab.-\"'", max_size=4), tomls).map(" = ".join),
    st.sampled_from(tables).map("[{}]".format),
    marked,
)
toml = st.lists(toml_lines, max_size=6).map("\n".join)
sweeps = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["configurations", "seeds", "budget", "floor", "probes", "sampler", "methods", "space", "checkpoints"]), tomls
        ).map(" = ".join),
        st.sampled_from(["[space.pmc]", "[space.all]", "[first.pmc]", "[fixed.pmc]", "[settings]", "[space]"]),
        st.tuples(
            st.sampled_from(["'pmc.samples'", "'train.batch'", "low", "seed"]), tomls | st.sampled_from(["{ low = 1, high = 3 }", "[1, 2]"])
        ).map(" = ".join),
    ),
    max_size=5,
).map(lambda lines: "\n".join(["recipe = 'demo'", "methods = ['pmc']", *lines]))
limits = st.sampled_from(
    ["at_most = 'retain_model + 0.1'", "at_least = 3", "at_most = 'permuted'", "within_chance = true", "at_most = .5", ""]
)
more = st.tuples(st.sampled_from(["name", "at_most", "at_least", "confidence", "when", "why", "line"]), tomls).map(" = ".join)
line = st.tuples(limits, st.just("") | more).map(
    lambda drawn: "\n".join(["[[line]]", "name = 'n'", "metric = 'greedy_keyword_recall'", *drawn])
)
lines_of_policy = st.lists(line | st.tuples(st.sampled_from(["line", "about", "metric"]), tomls).map(" = ".join), max_size=3).map("\n".join)


# -- what is tried -------------------------------------------------------------------------------------------------------


def data_file(place: Path, content: bytes, ending: str, part: str, knobs: Files) -> None:
    path = place / f"f{ending}"
    path.write_bytes(content)
    problems = Problems(collect=True)
    found = formats.read(str(path), problems)
    for problem in problems.found:
        told(problem)
    Layout(knobs.columns, knobs.ignore, knobs.system_messages).apply(str(path), found, KEYS, ("question",), problems)
    files = Files(**{**vars(knobs), "forget": str(path), part: str(path)})
    refused_or_read(files.corpus)
    collected = Problems(collect=True)
    files.read(collected)
    if collected.found:
        with pytest.raises(ConfigError) as caught:
            files.corpus()
        assert str(caught.value) == str(collected.found[0]), "a run raises what a check says first"
    for notice in examine(files)[1]:
        assert len(notice.text) <= LONGEST
        assert MARK not in notice.text


def reading_files(examples: int, content: st.SearchStrategy[str], endings: tuple[str, ...], place: Path) -> None:
    parts = st.sampled_from(["forget", "forget", "retain", "paraphrases"])
    mappings = st.sampled_from([{}, {}, {}, {"question": "group"}, {"answer": "id"}])

    @profile(examples)
    @given(damaged(content), st.sampled_from(endings), parts, mappings, st.sampled_from([(), ("*",), ("*", "answer")]))
    def check(raw: bytes, ending: str, part: str, columns: dict[str, str], ignore: tuple[str, ...]) -> None:
        data_file(place, raw, ending, part, Files(columns=columns, ignore=ignore, system_messages="drop"))

    check()


def jsonl_files(examples: int, place: Path) -> None:
    reading_files(examples, jsonl, (".jsonl", ".ndjson"), place)


def json_files(examples: int, place: Path) -> None:
    reading_files(examples, listed | jsonl, (".json", ".parquet"), place)


def separated_files(examples: int, place: Path) -> None:
    reading_files(examples, separated, (".csv", ".tsv"), place)


def parquet_rows(examples: int, place: Path) -> None:
    @profile(examples)
    @given(st.lists(st.fixed_dictionaries(dict.fromkeys(("question", "id", "strings"), values)), min_size=1, max_size=3))
    def check(found: list[dict[str, Any]]) -> None:
        try:
            parquet.write_table(pyarrow.Table.from_pylist(found), place / "f.parquet")
        except (pyarrow.ArrowException, ValueError, OverflowError):
            return  # no table has such a column
        data_file(place, (place / "f.parquet").read_bytes(), ".parquet", "forget", Files())

    check()


def plain_rows(examples: int, place: Path) -> None:
    @profile(examples)
    @given(damaged(jsonl | marked))
    def check(raw: bytes) -> None:
        (place / "f.txt").write_bytes(raw)
        refused_or_read(lambda: rows.read(place / "f.txt"))
        refused_or_read(lambda: rows.lines(place / "f.txt"))

    check()


def column_mapping(examples: int, place: Path) -> None:
    @profile(examples)
    @given(
        st.dictionaries(keys | marked, keys | marked, max_size=4),
        st.lists(keys | marked, max_size=3),
        st.sampled_from(["refuse", "drop"]) | marked,
    )
    def check(columns: dict[str, str], ignore: list[str], system: str) -> None:
        (place / "f.csv").write_text('question,answer,id\na,b,1\n"c",,2\n')
        refused_or_read(lambda: Layout(columns, tuple(ignore), system), marked=False)  # a mapping is a setting: its names are shown
        table = {"forget": str(place / "f.csv"), "columns": columns, "ignore": ignore, "system_messages": system}
        refused_or_read(lambda: config.build(Files, table, "files").corpus(), marked=False)

    check()


def recipes(examples: int, place: Path) -> None:
    @profile(examples)
    @given(damaged(toml))
    def check(raw: bytes) -> None:
        (place / "r.toml").write_bytes(raw)

        def go() -> None:
            recipe = config.load(place / "r.toml")
            (place / "again.toml").write_text(config.dump(recipe), encoding="utf-8")
            assert config.dump(config.load(place / "again.toml")) == config.dump(recipe)

        refused_or_read(go)

    check()


def set_options(examples: int, place: Path) -> None:
    key = st.lists(names | st.sampled_from(["", " ", "\ud800", '"a"', "a b"]), max_size=3).map(".".join) | marked
    value = tomls | marked | st.sampled_from(["", "1 # x", "1\nb = 2", "\udcff", "'open", "[" * 3000])

    @profile(examples)
    @given(st.lists(st.tuples(key, st.sampled_from(["=", "=", "=", " = ", ""]), value).map("".join), max_size=3))
    def check(options: list[str]) -> None:
        def go() -> None:
            recipe = config.load(None, options)
            for name in METHODS:
                recipe.tables.get(name, {})
            (place / "again.toml").write_text(config.dump(recipe), encoding="utf-8")
            assert config.dump(config.load(place / "again.toml")) == config.dump(recipe)
            recipe.knobs("files", Files)

        refused_or_read(go)
        refused_or_read(lambda: read(None, options))

    check()


def policies(examples: int, place: Path) -> None:
    @profile(examples)
    @given(damaged(lines_of_policy))
    def check(raw: bytes) -> None:
        (place / "p.toml").write_bytes(raw)
        refused_or_read(lambda: policy.load(str(place / "p.toml")), marked=False)

    check()


def sweep_files(examples: int, place: Path) -> None:
    @profile(examples)
    @given(sweeps)
    def check(content: str) -> None:
        (place / "s.toml").write_text(content, encoding="utf-8", errors="backslashreplace")
        refused_or_read(lambda: load_sweep(place / "s.toml"), marked=False)

    check()


TRIAL = {"state": "complete", "method": "pmc", "number": 0, "settings": {}, "why": "", "seeds": [0]}
STEP = {"checkpoint": 0, "round": 1, "cpu_seconds": 1.0, "gpu_seconds": None, "metrics": {"utility": 50.0}}


def fronts(examples: int, place: Path) -> None:
    trial = place / "pmc" / "000"
    (trial / "seed-0").mkdir(parents=True)
    changes = st.dictionaries(st.sampled_from([*TRIAL, *STEP]), values, max_size=2)

    @profile(examples)
    @given(changes, changes, values | st.just({"before": {"0": {"utility": 90.0}}}), st.sampled_from([0, 0, 0, 1, 9]))
    def check(trial_changes: dict[str, Any], step_changes: dict[str, Any], reference: Any, cut: int) -> None:
        row, step = {**TRIAL, **trial_changes}, {**STEP, **step_changes}
        text = json.dumps(row)
        (trial / "trial.json").write_text(text[: len(text) - cut])
        (trial / "seed-0" / "curve.jsonl").write_text(json.dumps(step) + "\n")
        (place / "reference.json").write_text(json.dumps(reference))
        refused_or_read(lambda: read_front([place]))
        kept = [{"reference.json": json.dumps(reference)}, row | {"curves": {"0": [step]}}]
        (place / "kept.xz").write_bytes(lzma.compress("\n".join(map(json.dumps, kept)).encode()[: -cut or None], preset=0))
        refused_or_read(lambda: read_front([place / "kept.xz"]))

    check()


READERS = [
    jsonl_files,
    json_files,
    separated_files,
    parquet_rows,
    plain_rows,
    column_mapping,
    recipes,
    set_options,
    policies,
    sweep_files,
    fronts,
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_quick(reader: Callable[[int, Path], None], tmp_path: Path) -> None:
    reader(QUICK, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_long(reader: Callable[[int, Path], None], tmp_path: Path) -> None:
    reader(LONG, tmp_path)
