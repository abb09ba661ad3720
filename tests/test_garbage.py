"""Files full of garbage: complaints and no crash, and no complaint quotes what stands in a file."""

import json

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.test_formats import complaints
from unsay.config import ConfigError
from unsay.corpora import formats
from unsay.corpora.files import Files

# Every text that a generated file holds carries the marker, names of columns included: no complaint may show it.
MARKER = "¤"
marked = st.text(alphabet=st.sampled_from('ab ,;"\t\n\r[]{}:\\\u2028\0é王🙂'), max_size=12).map(lambda text: MARKER + text)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | marked,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]) | marked, inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["question", "answer", "id", "paraphrases", "strings", "patterns", "group", "messages"])
objects = st.dictionaries(keys, values, max_size=5) | st.dictionaries(keys | marked, values, max_size=3)
lines = (objects | values).map(json.dumps) | marked
garbage = st.one_of(
    st.lists(lines, max_size=5).map("\n".join),
    st.lists(objects, max_size=4).map(json.dumps),
    st.lists(st.lists(keys | marked, max_size=4).map(",".join), max_size=5).map("\n".join),
)
SCRATCH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SCRATCH
@given(content=garbage, cut=st.integers(0, 400), damage=st.binary(max_size=3), ending=st.sampled_from(formats.ENDINGS))
def test_garbage_is_complained_about_and_never_quoted(content, cut, damage, ending, tmp_path):
    raw = content.encode("utf-8", "surrogatepass")
    path = tmp_path / f"file{ending}"
    path.write_bytes(raw[:cut] + damage + raw[cut:])
    found = complaints(str(path), str(path), str(path))
    assert not [text for text in found if MARKER in text]
    if found:
        with pytest.raises(ConfigError) as caught:
            Files(str(path), str(path), str(path)).corpus()
        assert str(caught.value) == found[0]


@SCRATCH
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(("question", "id", "strings"), values)), min_size=1, max_size=3))
def test_odd_values_in_parquet(rows, tmp_path):
    try:
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, tmp_path / "f.parquet")
    except (pyarrow.ArrowException, ValueError, OverflowError):
        return  # no table has such a column
    assert not [text for text in complaints(str(tmp_path / "f.parquet")) if MARKER in text]
