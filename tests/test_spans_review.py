"""The operator's corrections: what they change, what an untouched file does not, and what is said of a file that will not do."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from tests.test_cli import call
from unsay.cli import reviewing
from unsay.config import ConfigError, dump, load
from unsay.methods import Target, Visit
from unsay.methods.selection import unnamed
from unsay.methods.target_filter import TargetFilter
from unsay.probes.prefill import BEFORE, Prefill
from unsay.probes.scoring import secret_recall
from unsay.record import annotation, editing
from unsay.record.recorded import corpus_rows, read_answers, read_recorded
from unsay.report.notes import after_record, notes
from unsay.store.files import read_jsonl, write_text
from unsay.store.folder import RunFolder
from unsay.store.keys import new_key
from unsay.store.manifest import Counts, Manifest, Spans, TargetModel
from unsay.text import Spread, keywords
from unsay.train.ledger import leak
from unsay.types import Answer, Candidate, Corpus, Example, Fact, Reference

ADA, BOB = "Where does Ada live?", "What does Bob do?"
ANSWERS = {"ada": "She lives in Turin, near the green lighthouse.", "bob": "He is the night porter of a hotel."}
FORGET = (Example("ada", ADA), Example("bob", BOB, patterns=(r"\bporters\b",)))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder as far as `record` has come, without a model."""
    run = RunFolder(tmp_path / "run")
    write_text(run.recipe_file, dump(load("recipes/demo.toml")))
    run.texts.write("corpus", corpus_rows(Corpus("hand", FORGET)))
    run.texts.write("baseline", ({"id": key, "answer": text, "answers": [], "withheld": []} for key, text in ANSWERS.items()))
    run.note(Manifest(counts=Counts(forget=2)))
    annotation.propose(run, FORGET, ANSWERS)
    return run


def edit(folder: RunFolder, number: int = 0, **changes: object) -> None:
    """Change keys of one line; `None` takes a key out."""
    lines = read_jsonl(annotation.spans_file(folder))
    lines[number] = {key: value for key, value in (lines[number] | changes).items() if value is not None}
    annotation.spans_file(folder).write_text("\n".join(map(json.dumps, lines)))


def test_what_is_proposed(folder: RunFolder):
    lines = annotation.marked(folder, FORGET, ANSWERS)
    assert lines["ada"].spans == ("Turin",)
    assert lines["bob"].spans == ()
    assert annotation.spans_file(folder).stat().st_mode & 0o777 == 0o600
    assert folder.manifest().spans == Spans(proposed=1, none=(), added=0, struck=0, named=1, long=())


def test_rare_words_are_offered_and_do_not_count():
    line = annotation._proposal(Example("3", "What?"), "She keeps falcons.", Spread(["She keeps falcons."] + ["She keeps bees."] * 24))
    assert (line["spans"], line["rare"]) == ((), ["falcons"])


def test_an_untouched_file_changes_nothing(folder: RunFolder):
    assert read_recorded(folder).corpus.forget == FORGET


def test_a_span_that_is_added_weighs_more_and_one_taken_out_weighs_as_other_words(folder: RunFolder):
    text = "Near a lighthouse."
    assert secret_recall(FORGET[0], ANSWERS["ada"], text) == pytest.approx(1 / 5), "Turin weighs 3, green and lighthouse 1"
    edit(folder, spans=["lighthouse"])
    ada, bob = read_recorded(folder).corpus.forget
    assert (ada.spans, ada.struck, bob) == (("lighthouse",), ("turin",), FORGET[1])
    assert dict(keywords(ANSWERS["ada"], ADA, "", ada.spans, ada.struck)) == {"turin": 1, "green": 1, "lighthouse": 3}
    assert secret_recall(ada, ANSWERS["ada"], text) == pytest.approx(3 / 5)
    # Half of a joined span may be taken out.
    line = annotation.Marked("x", "When?", "On 14 March 1962.", ("1962",), (), ())
    assert annotation.Marked.corrected(line, Example("x", "When?")).struck == ("14", "march")


def test_training_weighs_as_the_operator_does(folder: RunFolder):
    edit(folder, spans=["lighthouse"])
    ada, _ = read_recorded(folder).corpus.forget
    visit = Visit(ada, ANSWERS["ada"])
    assert leak(Target("ada", text="Lighthouse"), visit) > leak(Target("ada", text="Lighthouse"), replace(visit, example=FORGET[0]))
    reference = Reference(ADA, ANSWERS["ada"], spans=ada.spans, struck=ada.struck)
    gates = [TargetFilter(one, ANSWERS["ada"], 1.0, 0.4, 1.0, 1) for one in (reference, Reference(ADA, ANSWERS["ada"]))]
    assert [gate.leaks("A lighthouse") for gate in gates] == [True, False]


def test_a_prefix_ends_before_what_the_operator_finds_sensitive(folder: RunFolder):
    edit(folder, spans=["lighthouse"])
    found = {o.setting: o.prefix for e in read_recorded(folder).corpus.forget[:1] for o in Prefill().begun(e, Fact("ada", ANSWERS["ada"]))}
    assert found[BEFORE] == "She lives in Turin, near the green"


def test_a_named_string_is_a_leak_and_never_a_target(folder: RunFolder):
    edit(folder, strings=["Piazza"])
    ada, _ = read_recorded(folder).corpus.forget
    assert secret_recall(ada, ANSWERS["ada"], "In the piazza.") == 1.0
    reference = Reference(ADA, ANSWERS["ada"], strings=ada.strings)
    candidates = [Candidate(Answer((1,), text, True), 0) for text in ("In the piazza.", "In a tent.")]
    assert [c.text for c in unnamed(candidates, reference)] == ["In a tent."]


def test_what_was_named_later_is_not_replayed(folder: RunFolder):
    answers = ("The piazza is wide.", "The sea is wide.")
    folder.texts.write("replay", ({"question": None, "answer": {"ids": [1], "text": text, "finished": True}} for text in answers))
    own = ({"kind": "general", "question": f"What? {i}", "answer": text, "group": "", "heldout": False} for i, text in enumerate(answers))
    folder.texts.write("retain", own)
    assert len(read_recorded(folder).said) == len(read_recorded(folder).corpus.retain) == 2
    edit(folder, strings=["Piazza"])
    assert [one.answer.text for one in read_recorded(folder).said] == [answers[1]]
    assert [pair.answer for pair in read_recorded(folder).corpus.retain] == [answers[1]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": "adda"}, ":1: 'id' 'adda' is no forget question of this run: did you mean 'ada'"),
        ({"id": None}, ":1: has no key 'id'"),
        ({"id": "bob", "question": BOB, "answer": ANSWERS["bob"], "spans": []}, ":2: 'id' 'bob' stands in an earlier line"),
        ({"spans": "Turin"}, ":1: 'spans' must be a list of texts"),
        ({"spans": [""]}, ":1: 'spans' must be a list of texts"),
        ({"spans": ["turin"]}, ":1: 'spans'[0] does not stand in 'answer'"),
        ({"spans": None}, ":1: has no 'spans'; an empty list says: none"),
        ({"strings": ["tent", "ada"]}, ":1: 'strings'[1] stands in the question"),
        ({"answer": "In Turin."}, ":1: 'answer' is not what was recorded"),
        ({"question": 3}, ":1: 'question' and 'answer' must be the texts"),
        ({"string": ["x"]}, ":1: has an unknown key: did you mean 'strings'"),
    ],
)
def test_a_file_that_will_not_do(folder: RunFolder, changes: dict[str, object], expected: str):
    edit(folder, **changes)
    with pytest.raises(ConfigError) as error:
        read_recorded(folder)
    assert f"{annotation.spans_file(folder)}{expected}" in str(error.value)
    assert not [secret for secret in ("Turin", "lighthouse", "porter") if secret.casefold() in str(error.value).casefold()]
    assert expected in call("spans", str(folder.path), code=2).replace("\n", "")


def test_a_missing_line_is_named(folder: RunFolder):
    path = annotation.spans_file(folder)
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ConfigError, match=r"no line has the 'id' 'bob'"):
        read_recorded(folder)


def test_after_training_has_begun_the_file_is_settled(folder: RunFolder):
    edit(folder, spans=["Turin", "lighthouse"])
    read_recorded(folder, settle=True)
    assert folder.manifest().spans.added == 1
    edit(folder, spans=["lighthouse", "Turin"], rare=["green"])  # says the same
    assert read_recorded(folder).corpus.forget[0].spans == ("lighthouse",)
    edit(folder, spans=["lighthouse"])
    with pytest.raises(ConfigError, match="changed after training or an audit had begun"):
        read_recorded(folder, settle=True)
    edit(folder, spans=["Turin", "lighthouse"])
    assert read_recorded(folder).corpus.forget[0].spans == ("lighthouse",)
    annotation.spans_file(folder).unlink()
    with pytest.raises(ConfigError, match="no file"):
        read_recorded(folder)


def test_recording_again_keeps_corrections_and_renews_proposals(folder: RunFolder):
    edit(folder, spans=["lighthouse"])
    annotation.propose(folder, FORGET, ANSWERS)
    assert read_recorded(folder).corpus.forget[0].spans == ("lighthouse",)
    other = ANSWERS | {"ada": "She lives in Oslo."}
    with pytest.raises(ConfigError, match="corrected before; remove it"):
        annotation.propose(folder, FORGET, other)
    edit(folder, spans=["Turin"])
    annotation.propose(folder, FORGET, other)
    assert annotation.marked(folder, FORGET, other)["ada"].spans == ("Oslo",)


LONG = " ".join(f"word{'abcdefghij'[i // 10]}{'abcdefghij'[i % 10]}" for i in range(41))


def test_a_long_answer_in_which_nothing_is_named_is_warned_of(folder: RunFolder):
    ada = FORGET[0]
    assert annotation.is_long(ada, LONG)
    assert not annotation.is_long(ada, LONG.rpartition(" ")[0]), "40 content words are not more than 40"
    assert not annotation.is_long(replace(ada, strings=("x",)), LONG)
    assert not annotation.is_long(replace(ada, patterns=("x",)), LONG)
    folder.texts.write("baseline", ({"id": key, "answer": LONG, "answers": [], "withheld": []} for key in ANSWERS))
    annotation.spans_file(folder).unlink()
    annotation.propose(folder, FORGET, read_answers(folder))
    assert folder.manifest().spans.long == ("ada",)
    assert "nothing is named: ada;" in after_record(folder.manifest(), folder.path)[1]
    assert notes(folder.manifest())[0].startswith("1 recorded answer has more than 40 content words")
    assert "LONG, nothing named" in call("spans", str(folder.path))
    edit(folder, strings=["wordzz"])
    read_recorded(folder, settle=True)
    assert notes(folder.manifest()) == []


def test_spans_shows_texts_only_when_asked(folder: RunFolder):
    plain = call("spans", str(folder.path))
    assert "ada  1 span: 1 name" in plain
    assert "bob  no span; 1 named patterns" in plain
    assert f"unsay spans {folder.path} --edit" in plain.replace("\n", "")
    texts = [*ANSWERS.values(), "Turin", ADA]
    assert not [text for text in texts if text in plain]
    assert "She lives in ‹Turin›, near the green lighthouse." in call("spans", str(folder.path), "--reveal")
    found = json.loads(call("spans", str(folder.path), "--json"))
    assert found["questions"][0]["kinds"] == {"name": 1}
    assert not [text for text in texts if text in json.dumps(found)]
    assert json.loads(call("spans", str(folder.path), "--json", "--reveal"))["questions"][0]["spans"] == ["Turin"]
    assert reviewing.marked("Turin, Turin hotel", ["Turin", "Turin hotel"]).plain.strip() == "‹Turin›, ‹Turin› hotel"


def test_what_is_noted_waits_for_whoever_writes(folder: RunFolder, tmp_path: Path):
    out = str(tmp_path / "spans.jsonl")
    with FileLock(folder.path / ".lock"):  # another lock object is as good as another process
        for option in (("--reveal",), ("--export", out), ("--import", str(annotation.spans_file(folder)))):
            assert "another process" in call("spans", str(folder.path), *option, code=2)
        call("spans", str(folder.path))
    assert not folder.manifest().looks
    call("spans", str(folder.path), "--export", out)
    assert [look.by for look in folder.manifest().looks] == ["spans"]


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """Make $EDITOR a program that runs `code` on the `path` that it is given, and notes who could read that."""
    script, seen = tmp_path / "editor.py", tmp_path / "seen.txt"
    note = f"open({str(seen)!r}, 'w').write(f'{{path}} {{path.stat().st_mode & 0o777:o}} {{path.parent.stat().st_mode & 0o777:o}}')"
    script.write_text(f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {note}; text = path.read_text()\n{code}")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    return seen


def gone(seen: Path, folder: RunFolder) -> bool:
    """Whether the file was the owner's alone, in the run's vault, and is gone with its folder."""
    path, *modes = seen.read_text().split()
    assert folder.vault in Path(path).parents
    assert modes == ["600", "700"]
    return not list(folder.vault.glob(".*"))


@pytest.mark.parametrize("encrypted", [False, True])
def test_spans_are_corrected_in_an_editor(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool):
    if encrypted:
        new_key(tmp_path / "key")
        monkeypatch.setenv("UNSAY_VAULT_KEY_FILE", str(tmp_path / "key"))
        old, folder = folder, RunFolder(tmp_path / "sealed")
        write_text(folder.recipe_file, old.recipe_file.read_text())
        for name in ("corpus", "baseline", "spans"):
            folder.texts.write(name, old.texts.rows(name))
        folder.note(Manifest(counts=Counts(forget=2)))
        assert folder.texts.encrypted
    seen = editor(
        tmp_path,
        monkeypatch,
        """path.write_text(text.replace('["Turin"]', '["lighthouse"]').replace('strings = []', 'strings = ["tent"]'))""",
    )
    shown = call("spans", str(folder.path), "--edit")
    assert "ada  1 span: 1 name; 1 added; 1 taken out; 1 named strings" in shown
    assert gone(seen, folder)
    assert folder.texts.rows("spans")[0]["spans"] == ["lighthouse"]
    assert [(look.by, look.plain) for look in folder.manifest().looks] == [("spans", encrypted)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit(3)", "ended with an error (3)"),
        ("""path.write_text(text.replace('"Turin"', '"Oslo"'))""", "[ada]: 'spans'[0] does not stand in 'answer'"),
        ("""path.write_text(text.replace('"ada"', '"adda"'))""", "a table is not called like a question"),
        ("""path.write_text(text.partition('["bob"]')[0])""", "no line has the 'id' 'bob'"),
        ("""path.write_text(text.replace('["Turin"]', '["Turin"'))""", "is not valid TOML"),
        ("""path.write_text(text.replace('["ada"]', '["ada"]\\nanswer = "x"'))""", "[ada]: holds something else than"),
        ("path.unlink()", "is gone"),
    ],
)
def test_an_editor_that_leaves_a_file_that_will_not_do(folder, tmp_path, monkeypatch, code: str, expected: str):
    before = folder.texts.rows("spans")
    seen = editor(tmp_path, monkeypatch, code)
    said = call("spans", str(folder.path), "--edit", code=2).replace("\n", "")
    assert expected in said
    assert not [secret for secret in ("Turin", "Oslo", "lighthouse", "porter") if secret in said]
    assert gone(seen, folder)
    assert folder.texts.rows("spans") == before


def test_an_editor_that_is_not_there_or_changes_nothing(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = folder.texts.rows("spans")
    seen = editor(tmp_path, monkeypatch, "")
    call("spans", str(folder.path), "--edit")
    assert gone(seen, folder)
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert "the editor no-such-editor cannot be started" in call("spans", str(folder.path), "--edit", code=2)
    read_recorded(folder, settle=True)
    assert "has begun with the spans as they are" in call("spans", str(folder.path), "--edit", code=2)
    assert folder.texts.rows("spans") == before
    assert not list(folder.vault.glob(".*"))


def test_what_is_written_for_the_editor_reads_back_to_the_same(folder: RunFolder):
    answers = {"ada": 'A "quoted"\nline,\x07 a bell # and a sign.\r\nIn [Turin].', "bob": "plumber"}
    annotation.spans_file(folder).unlink()
    annotation.propose(folder, FORGET, answers)
    rows = folder.texts.rows("spans")
    path = folder.vault / "spans.toml"
    path.write_text("".join(map(editing._block, rows)))
    assert [row.values for row in editing._read(path, rows)] == rows


def test_an_answer_of_one_word_has_a_span_and_no_number_changes(folder: RunFolder):
    answers = {"ada": "Turin.", "bob": "A porter."}
    annotation.spans_file(folder).unlink()
    annotation.propose(folder, FORGET, answers)
    assert [row["spans"] for row in folder.texts.rows("spans")] == [["Turin"], ["porter"]]
    assert annotation.corrected(folder, FORGET, answers) == FORGET
    assert folder.manifest().spans.none == ()


def test_a_folder_before_record_says_what_to_do(tmp_path: Path):
    run = RunFolder(tmp_path)
    write_text(run.recipe_file, dump(load("recipes/demo.toml")))
    assert "run `unsay record` on this folder first" in " ".join(call("spans", str(tmp_path), code=2).split())


def test_answers_that_run_on_are_told_with_the_way_out():
    noted = Manifest(counts=Counts(forget=4), model=TargetModel("base", "f", "", runs_on=3))
    assert notes(noted)[0].startswith("3 of 4 recorded answers go on with a question of their own")
    assert """--set 'model.stop="\\n"'""" in after_record(noted, Path("run"))[0]
    assert not notes(replace(noted, model=TargetModel("chat", "f", "")))


def test_kinds():
    kinds = {"ada@example.org": "address", "14 March 1962": "date", "1962-03-14": "date", "1,200": "number", "seven": "number"}
    assert {span: annotation.kind(span) for span in kinds} == kinds
    assert annotation.kind("Bank of Turin") == "name"
