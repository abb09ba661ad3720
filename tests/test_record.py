"""What `record` writes down: branches over first tokens, what is withheld, and the replay that touches no secret."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import files_corpus
from unsay.config import SampleConfig, load
from unsay.lm.subject import LocalSubject
from unsay.record import expected_answers, record, source, start
from unsay.record.recorded import read_recorded, read_truth
from unsay.record.replay import TRIED, ReplayFilter, Said, kindred_answers, named_alike, near_misses, neighbours, replay, spelled_alike
from unsay.record.stage import heldout_questions
from unsay.report.notes import after_record
from unsay.store.folder import RunFolder
from unsay.store.manifest import Counts
from unsay.text import keyword_recall
from unsay.text.names import subject
from unsay.types import Answer, Corpus, Example, Pair


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "demo")
    recipe = load("recipes/demo.toml", ["record.replay=96", "record.prose=40", "record.near_misses=4", "record.answers=2"])
    start(recipe, folder)
    record(recipe, folder)
    return folder


def test_the_target_model_tells_all(recorded: RunFolder):
    truth, answers = read_truth(recorded), read_recorded(recorded).answers
    recalls = [keyword_recall(truth[e.id].answer, answers[e.id], e.question) for e in read_recorded(recorded).corpus.forget]
    assert sum(recalls) / len(recalls) > 0.95


def test_branches_show_other_wordings_and_half_of_them_are_withheld(recorded: RunFolder):
    baseline = read_recorded(recorded).baseline.values()
    wordings = [len({answer.text for answer in one.answers}) for one in baseline]
    assert sum(wordings) / len(wordings) > 2
    assert sum(len(one.withheld) for one in baseline) > len(baseline)
    for one in baseline:
        assert not set(one.withheld) & {answer.text for answer in one.answers if answer.text != one.answer}


def test_no_prefix_begins_as_the_audit_will(recorded: RunFolder):
    for one in read_recorded(recorded).baseline.values():
        assert not [answer.text for answer in one.answers if answer.text.startswith("The answer is")]


def test_prose_is_long_and_touches_no_forget_person(recorded: RunFolder):
    """Longer than an answer may be, since it is read and not asked for."""
    prose, people = read_recorded(recorded).prose, {example.group for example in read_recorded(recorded).corpus.forget}
    assert 20 < len(prose) <= 40
    lengths = [len(text.ids) for text in prose]
    assert 16 <= min(lengths) < max(lengths) <= 64
    assert not [text for text in prose for person in people if person in text.text]
    assert (recorded.vault / "prose.jsonl").stat().st_mode & 0o777 == 0o600


def test_few_texts_are_said(recorded: RunFolder):
    """A model that ends early writes hardly any that are long enough; then nothing keeps plain text as it was."""
    few = [line for line in after_record(recorded.manifest(), recorded.path) if "record.prose" in line]
    count = len(read_recorded(recorded).prose)
    assert few == [f"warning: the model wrote only {count} texts that may be kept (record.prose), so little holds plain text in place"]
    enough = replace(recorded.manifest(), counts=Counts(prose=400))
    assert not [line for line in after_record(enough, recorded.path) if "record.prose" in line]


def test_replay_touches_no_forget_person(recorded: RunFolder):
    said, corpus = read_recorded(recorded).said, read_recorded(recorded).corpus
    assert len(said) > 50
    assert any(one.question is None for one in said)
    assert any(one.question is not None for one in said)
    assert {one.beside for one in said} <= {"", *(example.id for example in corpus.forget)}
    assert any(one.beside for one in said)
    people = {example.group for example in corpus.forget}
    assert not [one for one in said for person in people if person in f"{one.question} {one.answer.text}"]


def test_neighbours_put_another_name_in_the_subjects_place():
    found = neighbours(["Where does Ada Byron live?"], ["Carl Linde lives in Oslo.", "Nothing here."], 5, seed=0)
    assert found == {"Where does Carl Linde live?": "Carl Linde"}
    assert neighbours(["Where is it?"], ["Carl Linde lives in Oslo."], 5, seed=0) == {}


def test_near_misses_share_a_word_with_the_subject_and_are_not_it():
    examples = [Example("a", "Where does Ada Byron live?"), Example("b", "Who wrote Hamlet?"), Example("c", "Where is it?")]
    found = near_misses(examples, [], ["Carl Linde", "Eva Ryd"], 8, 0, {})
    about = {key: {question for question, whose in found.items() if key in whose} for key in "abc"}
    spelled = {"Aarl Byron", "Arl Byron", "Al Byron", "Adarl Byron", "Adrl Byron", "Adl Byron", "Ava Byron", "Aa Byron", "Adva Byron"}
    names = {subject(question) for question in about["a"]}
    assert names - spelled == {"Ada Linde", "Ada Ryd", "Carl Byron", "Eva Byron"}
    assert len(names) == 8
    assert about["b"] == {"Who wrote Carl Linde?", "Who wrote Eva Ryd?"}, "one word has no half: another name takes its place"
    assert about["c"] == set()
    assert near_misses(examples, [], [], 4, 0, {}) == {}
    whole = near_misses(examples[:1], [], ["Oslo"], 4, 0, {})
    assert list(whole) == ["Where does Oslo live?"], "no name has a half to give"
    many = [f"{first} {last}" for first in ("Kim", "Lou", "Max", "Noa") for last in ("Arno", "Brix", "Cole", "Dorn", "Ek", "Fox")]
    assert len(near_misses(examples[:1], [], many, 4, 0, {})) == 4


def test_an_initial_makes_no_name_that_is_spelled_alike():
    made = near_misses([Example("a", "Where does Ada Byron live?")], [], ["J. Linde", "Jo-Ann Ryd", "Al Ek"], 8, 0, {})
    assert {subject(question).split()[0] for question in made} <= {"Ada", "J", "Jo-Ann", "Al", "Linde", "Byron"}


def test_the_name_alone_is_spared_whatever_else_was_asked():
    guard = ReplayFilter([], ["Name the two novels of Ada Byron."])
    assert not guard.harmless("Where does Ada Byron live? In Rome.")
    assert guard.harmless("Where does Ada Linde live? In Rome.")


def test_a_name_spelled_alike_begins_as_the_one_and_ends_as_the_other():
    """Known people with a similar name may be in no file."""
    numbers = {"cut": 0.5, "at": 0.99, "other": 0.6}
    assert spelled_alike("Isrin Winter Quist", ["Zoe", "Casthea"], 3, lambda _, what: numbers[what]) == ["Isra Winter Quist"]
    rng = random.Random(0)
    found = spelled_alike("Ada Byron", ["Zoe", "Eva", "Oda"], 9, lambda *_: rng.random())
    assert set(found) <= {f"{a}{b} Byron" for a in ("A", "Ad") for b in ("oe", "e", "va", "a", "da")} - {"Ada Byron"}
    assert len(found) == len(set(found)) > 5
    assert spelled_alike("Ada Byron", [], 9, lambda *_: 0.0) == []
    assert spelled_alike("J K", ["O"], 1, lambda *_: 0.9) == [], "nothing else can be made of them"


def test_names_of_one_word_are_near_to_every_question_worded_alike():
    """One question may stand beside many, so that no visit goes without."""
    examples = [Example(key, f"Where is {name}?") for key, name in (("a", "Lima"), ("b", "Quito"), ("c", "La Paz"))]
    kept = [Pair(name, f"Where is {name}?", "") for name in ("Bogota", "Caracas")]
    found = near_misses(examples, kept, ["Ada Byron"], 4, 0, {"Where is X?": {"Asuncion", "Lima"}})
    assert found["Where is Bogota?"] == found["Where is Asuncion?"] == ["a", "b", "c"]
    assert found["Where is Lima?"] == ["b", "c"], "the filter of replay rows leaves out what is to be forgotten"
    assert not any("Byron" in question for question in found), "no name of people, where those of the kind are of one word"


def test_the_model_itself_names_others_of_the_kind():
    """It goes on with the wording of the question, up to what follows there."""
    asked, told = [], ["Oslo?", "Rome? Yes", "the moon?", "Oslo? Or", "never ends", "?"]
    encoder = SimpleNamespace(until=lambda beginning: asked.append(beginning) or (1, 2), prefix=lambda text: tuple(map(ord, text)))

    def sample(draws, salt):
        assert [(draw.key, draw.n, draw.context) for draw in draws] == [("Where is X?", 8, (1, 2))]
        return [[Answer((3,), text, True) for text in told]]

    subject = SimpleNamespace(encoder=encoder, sample=sample)
    found = named_alike(subject, ["Where is Lima?", "Where is Quito?", "Where does Ada Byron live?", "Where is it?"], 8)
    assert asked == ["Where is "], "once for each wording; a name of several words is varied by its halves"
    assert found == {"Where is X?": {"Oslo", "Rome"}}


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("Carl Linde lives in Oslo.", True),
        ("Ada Byron paints.", False),  # names the subject
        ("Somebody lives in Turin, at Via Roma.", False),  # says the secret
        ("Byron was a poet.", True),  # half a name is a neighbour
    ],
)
def test_what_replay_leaves_out(text: str, harmless: bool):
    guard = ReplayFilter([("Where does Ada Byron live?", "Ada Byron lives in Turin, at Via Roma.")])
    assert guard.harmless(text) == harmless


def test_replay_spares_every_set_that_is_held_out():
    """What an attack takes for unread, or what asks after the forgotten texts, is not repeated either."""
    kept, heldout, unknown, unread = (Pair(key, f"Where does {key} Roe live?", "There.") for key in ("Ada", "Bo", "Cy", "Di"))
    corpus = Corpus(
        "made up",
        (),
        retain=(kept,),
        utility={"retain": (kept,)},
        utility_heldout={"retain": (heldout,)},
        unknown_entities=(unknown,),
        holdout=(unread,),
        knowledge=(Example("k", "Where does Ed Roe live?"),),
    )
    guard = ReplayFilter([], heldout_questions(corpus))
    spared = [name for name in ("Ada", "Bo", "Cy", "Di", "Ed") if not guard.harmless(f"{name} Roe lives in Oslo.")]
    assert spared == ["Bo", "Cy", "Di", "Ed"]


def test_kindred_are_asked_about_once_and_touch_nothing_that_is_spared(encoder):
    """Rome is held out, and a kept question is a retain row already."""
    retain = [Pair(name, f"Where is {name}?", "There.") for name in ("Lima", "Quito", "Bogota")]

    def sample(draws, salt):
        return [[Answer((3,), text, True) for text in (["Oslo?", "Rome?", "Lima?"] if draw.temperature else ["There."])] for draw in draws]

    subject = SimpleNamespace(encoder=encoder, sample=sample, seed=0)
    guard = ReplayFilter([("Where does Ada Byron live?", "In Turin.")], ["Where is Rome?"])
    found = kindred_answers(subject, retain, [], guard, 4)
    assert [(one.question, one.answer.text, one.beside) for one in found] == [("Where is Oslo?", "There.", "")]


def test_a_replay_row_keeps_its_ids(model, encoder):
    said = Said(None, Answer((9, 9), "aa", False))
    assert said.row(encoder).answer == (9, 9)
    assert said.row(encoder).context == encoder.prompt(None)
    questions = ["Where does Ada live?"]
    subject = LocalSubject(model, encoder, SampleConfig(max_new_tokens=6))
    found = replay(subject, questions, ReplayFilter([*zip(questions, ["In Turin."], strict=True)]), 8)
    assert 0 < len(found) <= 16


def test_sources_of_every_recipe_that_needs_no_data():
    assert len(source(load("recipes/demo.toml")).corpus().forget) == 40
    assert Path("recipes/own-questions.toml").exists()


@pytest.mark.parametrize(("knob", "more"), [("near_misses", 3 * 4 + TRIED * 4), ("kindred", (1 + TRIED) * 4 * 3), ("prose", 2 * 4)])
def test_names_of_the_kind_are_counted_among_the_answers_to_come(tmp_path: Path, knob: str, more: int):
    """Or the bar of progress stands at its end while half of the answers are still to come: four questions for each of the three, or for
    their one wording and two of the package's general questions, and sixteen tries at each wording."""
    expected = []
    for n in (0, 4):
        folder = RunFolder(tmp_path / str(n))
        recipe = load(None, [*files_corpus(tmp_path, 3, 2), "record.near_misses=0", f"record.{knob}={n}"])
        start(recipe, folder)
        expected.append(expected_answers(recipe, folder))
    assert expected[1] - expected[0] == more
