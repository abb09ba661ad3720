"""A retain set of the model's own answers: what is kept, what stays out of training, and what happens where nothing is of use."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from unsay.config import ConfigError, SampleConfig, load
from unsay.corpora.people import People
from unsay.lm.subject import LocalSubject
from unsay.record import record, retain, stage, start
from unsay.record.recorded import corpus_rows, read_handed, read_recorded
from unsay.record.replay import ReplayFilter, Said
from unsay.record.retain import GENERAL, NEAR, own_answers, shipped
from unsay.report.notes import after_record, notes
from unsay.store.folder import RunFolder
from unsay.text import is_refusal, words
from unsay.types import Answer, Corpus, Example, Pair

QUESTIONS = ["Where does Ada Byron live?", "When was Ada Byron born?"]
GUARD = ReplayFilter(
    [*zip(QUESTIONS, ["In Turin, at Via Roma.", "In 1815."], strict=True)], named=[Example("x", "Who?", strings=("harbour",))]
)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, bool]]:
    """A model that answers by the book: question → (answer, whether it ends). It is equally sure of everything."""
    book: dict[str, tuple[str, bool]] = {}

    def greedily(subject, questions):
        told = [book.get(question, ("A plain answer.", True)) for question in questions]
        return [Said(q, Answer(tuple(range(9)), text, ends)) for q, (text, ends) in zip(questions, told, strict=True)]

    names = ["Carl Linde", "Eva Holm", "Ida Berg", "Max Frank", "Ann Lee", "Tom Ford", "Jo Marsh", "Kim Stone"]
    texts = [Said(None, Answer((1,), f"It is said that {name} lives in Oslo.", True)) for name in names]
    monkeypatch.setattr(retain, "greedy_answers", greedily)
    monkeypatch.setattr(retain, "unasked", lambda subject, guard, n: texts[:n])
    monkeypatch.setattr(retain, "surest", lambda subject, said, n: list(said)[:n])
    return book


def own(n: int = 32, general: int = 20) -> tuple[list[retain.Own], Counter[str]]:
    pairs = [Pair(f"g{i}", f"What is the colour of thing {i}?", "Blue.", "colours") for i in range(general)]
    return own_answers(LocalSubject(None, None, SampleConfig()), pairs, QUESTIONS, GUARD, n)  # type: ignore[arg-type]


def test_about_half_are_neighbours_and_a_quarter_stays_out(scripted):
    rows, tally = own()
    assert Counter((row.kind, row.heldout) for row in rows) == {
        (GENERAL, False): 12,
        (GENERAL, True): 4,
        (NEAR, False): 12,
        (NEAR, True): 4,
    }
    assert tally == {"asked": 36}
    assert not [row for row in rows if "Ada" in row.question]


def test_a_name_is_held_out_with_all_its_questions(scripted):
    rows, _ = own()
    sides = {name: {row.heldout for row in rows if row.group == name} for name in {row.group for row in rows if row.kind == NEAR}}
    assert len(sides) == 8
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize(
    ("answer", "ends", "reason"),
    [
        ("It goes on and", False, "unfinished"),
        ("...", True, "empty or repetitive"),
        ("blue blue blue blue blue blue", True, "empty or repetitive"),
        ("I don't know that.", True, "refusals"),
        ("Like the houses of Turin, in Via Roma.", True, "close to a forget question"),
        ("As the one of Ada Byron.", True, "close to a forget question"),
        ("Like the harbour.", True, "close to a forget question"),
    ],
)
def test_what_is_left_out(scripted, answer, ends, reason):
    scripted["What is the colour of thing 3?"] = (answer, ends)
    rows, tally = own()
    assert tally[reason] == 1
    assert answer not in {row.answer for row in rows}


def test_a_refusal_may_answer_a_neighbour_but_few_of_them(scripted):
    for name in ("Carl Linde", "Eva Holm", "Ida Berg", "Max Frank", "Ann Lee"):
        for question in QUESTIONS:
            scripted[question.replace("Ada Byron", name)] = ("I don't know that.", True)
    rows, _ = own()
    near = [row for row in rows if row.kind == NEAR]
    assert sum(is_refusal(row.answer) for row in near) == 2
    assert len(near) == 8


def test_where_nothing_is_of_use_the_way_out_is_named(scripted):
    scripted |= {f"What is the colour of thing {i}?": ("on and on", False) for i in range(20)}
    scripted |= {q.replace("Ada Byron", name): ("on", False) for q in QUESTIONS for name in ("Carl Linde", "Eva Holm")}
    with pytest.raises(ConfigError, match=r"none of the model's own answers .*24 asked, 24 unfinished.*files\.retain="):
        own(n=4)


def test_the_shipped_answers_can_take_their_place():
    rows = shipped([Pair(f"g{i}", f"What? {i}", f"It is {i}.", "numbers") for i in range(8)], seed=0)
    assert sorted(row.answer for row in rows) == [f"It is {i}." for i in range(8)]
    assert sum(row.heldout for row in rows) == 2


def test_a_negative_number_is_refused():
    with pytest.raises(ConfigError, match=r"record\.own_retain = -1"):
        load(None, ["record.own_retain=-1"])


SMALL = ("record.answers=1", "record.branches=0", "record.replay=16", "sample.max_new_tokens=32")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The target model with a few of its people to forget, and no retain file."""
    forget = [e for e in People().corpus().forget if e.group == People().corpus().forget[0].group]
    path = tmp_path_factory.mktemp("rows") / "forget.jsonl"
    path.write_text("\n".join(json.dumps({"id": e.id, "question": e.question, "group": e.group}) for e in forget))
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "own")
    recipe = load(None, ["corpus=files", f'files.forget="{path}"', "record.own_retain=40", *SMALL])
    start(recipe, folder)
    record(recipe, folder)
    return folder


def test_record_makes_them_where_none_were_handed_over(recorded: RunFolder):
    corpus, handed = read_recorded(recorded).corpus, read_handed(recorded)
    assert not handed.retain
    kinds = {kind: len(pairs) for kind, pairs in corpus.utility.items()}
    assert set(kinds) == set(corpus.utility_heldout) == {GENERAL, NEAR}
    assert len(corpus.retain) == sum(kinds.values()) == recorded.manifest().counts.retain
    assert corpus.general == corpus.utility[GENERAL]
    heldout = [pair for pairs in corpus.utility_heldout.values() for pair in pairs]
    assert not {pair.question for pair in heldout} & {pair.question for pair in corpus.retain}
    noted = recorded.manifest().retain
    assert noted.from_ == "own answers"
    assert noted.general + noted.neighbours == len(corpus.retain) + len(heldout)
    assert not [pair for pair in (*corpus.retain, *heldout) if corpus.forget[0].group in f"{pair.question} {pair.answer}"]
    assert (recorded.vault / "retain.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_is_held_out_is_not_replayed_either(recorded: RunFolder):
    names = {pair.group for pair in read_recorded(recorded).corpus.utility_heldout[NEAR]}
    said = read_recorded(recorded).said
    assert names
    assert said
    assert not [one for one in said for name in names if set(words(name)) <= set(words(f"{one.question} {one.answer.text}"))]


def test_they_touch_nothing_that_an_attack_takes_for_unread(recorded: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nor what asks after a forgotten text without being a forget question."""
    made = []
    monkeypatch.setattr(stage, "own_answers", lambda *given: made.append(given[3]) or ([], Counter()))
    copy = RunFolder(shutil.copytree(recorded.path, tmp_path / "run"))
    corpus = replace(read_handed(recorded), knowledge=(Example("k", "Where does Ada Byron live?"),))
    subject = LocalSubject(None, None, SampleConfig())  # not asked
    stage._own_retain(subject, recorded.recipe(), copy, corpus, [])
    (guard,) = made
    assert not guard.harmless("Ada Byron lives in Oslo.")
    assert guard.harmless("Eva Holm lives in Oslo.")


def test_the_reader_is_told(recorded: RunFolder):
    noted = recorded.manifest().retain
    (sentence,) = notes(recorded.manifest())
    assert f"own answers, {noted.general} to general questions and {noted.neighbours} to the forget questions" in sentence
    assert sentence.endswith("right or wrong.")
    few = replace(recorded.manifest(), retain=replace(noted, few=True))
    assert "These are few" in notes(few)[0]
    assert after_record(few, recorded.path)[-1].startswith("warning: ")


def test_a_corpus_with_retain_rows_keeps_them(recorded: RunFolder, tmp_path: Path):
    folder = RunFolder(tmp_path)
    retain_rows = (Pair("r", "What is up?", "The sky."),)
    folder.texts.write("corpus", corpus_rows(Corpus("hand", (), retain=retain_rows)))
    folder.texts.write("baseline", [])
    folder.texts.write("retain", recorded.texts.rows("retain"))
    assert read_recorded(folder).corpus.retain == retain_rows


def test_a_model_that_never_ends_its_answers(tiny_folder: Path, tmp_path: Path):
    """An untrained model: the run stops with the way out, or goes on with the shipped answers where that was asked for."""
    (tmp_path / "forget.jsonl").write_text('{"question": "Where does Ada live?"}')
    settings = ["corpus=files", f'files.forget="{tmp_path / "forget.jsonl"}"', f'model.name="{tiny_folder}"', "sample.max_new_tokens=4"]
    recipe = load(None, [*settings, "record.own_retain=8", "record.branches=0"])
    start(recipe, RunFolder(tmp_path / "own"))
    with pytest.raises(ConfigError, match=r"unfinished.*record\.own_retain=0"):
        record(recipe, RunFolder(tmp_path / "own"))
    recipe, folder = load(None, [*settings, "record.own_retain=0", "record.branches=0"]), RunFolder(tmp_path / "shipped")
    start(recipe, folder)
    record(recipe, folder)
    assert folder.manifest().retain.from_ == "shipped answers"
    assert len(read_recorded(folder).corpus.retain) > 150
    assert notes(folder.manifest()) == ["No retain rows were handed over: the package’s general questions and answers take their place."]
