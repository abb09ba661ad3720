"""As many rows as fit, found out once."""

from unsay.config import SampleConfig
from unsay.folder import RunFolder
from unsay.plan import plan, planned
from unsay.reading import cached_bytes

CONFIG = SampleConfig(max_new_tokens=20, rows=64)
TOKEN = 2 * 2 * 2 * 8 * 4
"""Two layers, keys and values, two heads of eight numbers of four bytes."""


def test_bytes_of_the_cache(model):
    assert cached_bytes(model) == (0.0, TOKEN)


def test_rows_follow_what_is_free(model):
    row = 2 * TOKEN * 30 + 4 * 5 * 259
    assert plan(model, CONFIG, 10, free=10**12) == {"rows": 64, "row_bytes": row, "free_bytes": 10**12}
    assert plan(model, CONFIG, 10, free=20 * row)["rows"] == 10
    assert plan(model, CONFIG, 10, free=1)["rows"] == 1
    assert plan(model, CONFIG, 10, free=0)["rows"] == 64, "a system that does not say is not held against the recipe"


def test_a_stage_taken_up_again_keeps_its_plan(model, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.note(plan={"train": {"rows": 7, "row_bytes": 1, "free_bytes": 1}})
    assert planned(folder, "train", model, CONFIG, 10).rows == 7
    assert planned(folder, "record", model, CONFIG, 10).rows == folder.manifest()["plan"]["record"]["rows"] > 0
    assert folder.manifest()["plan"]["train"]["rows"] == 7
