"""As many rows as fit, found out once."""

from unsay.config import SampleConfig
from unsay.lm.plan import ON_PROCESSOR, for_many, plan, planned
from unsay.lm.reading import cached_bytes
from unsay.lm.subject import AT_ONCE
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest, Plan

CONFIG = SampleConfig(max_new_tokens=20, rows=64)
TOKEN = 2 * 2 * 2 * 8 * 4
"""Two layers, keys and values, two heads of eight numbers of four bytes."""


def test_bytes_of_the_cache(model):
    assert cached_bytes(model) == (0.0, TOKEN)


def test_rows_follow_what_is_free(model, encoder):
    prompt = len("<Question: Who is she?\nAnswer:")  # a token a byte, and one for the beginning of the text
    row = 2 * TOKEN * (prompt + 40) + 4 * 5 * 259
    asked = ["Who?", "Who is she?"]
    assert plan(model, encoder, CONFIG, asked, free=10**12) == Plan(64, row, 10**12)
    assert plan(model, encoder, CONFIG, asked, free=20 * row).rows == 10
    assert plan(model, encoder, CONFIG, asked, free=1).rows == 1
    assert plan(model, encoder, CONFIG, asked, free=0).rows == 64, "a system that does not say is not held against the recipe"


def test_a_stage_taken_up_again_keeps_its_plan(model, encoder, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.note(Manifest(plan={"train": Plan(7, 1, 1)}))
    assert planned(folder, "train", model, encoder, CONFIG, ["Who?"]).rows == 7
    assert planned(folder, "record", model, encoder, CONFIG, ["Who?"]).rows == folder.manifest().plan["record"].rows > 0
    assert folder.manifest().plan["train"].rows == 7


def test_an_audit_decodes_as_many_rows_as_are_worth_their_memory():
    many = SampleConfig(rows=ON_PROCESSOR + 1)
    assert for_many(many, "cpu") == SampleConfig(rows=ON_PROCESSOR)
    assert for_many(many, "cuda") == many
    assert for_many(CONFIG, "cpu") == CONFIG, "fewer, where the recipe says so"
    assert for_many(many, "cpu", AT_ONCE) == many, "few questions keep their batches"
    assert for_many(many, "cpu", AT_ONCE + 1).rows == ON_PROCESSOR
