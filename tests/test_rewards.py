"""Every reward on candidates one can score by hand, and one contract test over the whole table."""

import inspect
import math
import sys
import time
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from unsay.config import ConfigError
from unsay.rewards import harmless
from unsay.rewards.blocklist import Blocklist
from unsay.rewards.coherence import Fluency, Length
from unsay.rewards.diversity import Diversity
from unsay.rewards.harmless import Harmless
from unsay.rewards.overlap import Keys, Overlap, other_leak, own_leak, remainder
from unsay.rewards.refusal import Refusal
from unsay.rewards.semantic import Semantic
from unsay.rewards.topic import Distinct, Topic
from unsay.rewards.weighted import Weighted
from unsay.tables import REWARDS, lookup
from unsay.text import embedding, words
from unsay.types import Answer, Candidate, Reference, Told

REFERENCE = Reference(
    question="Where does Anna Kovač live?",
    baseline="She lives in Turin, Italy.",
    told=Told((("b", "What does Ben do?", "He works as a baker."), ("c", "When was Cora born?", "Her birthday is 14 March 1962."))),
)


def candidates(*texts: str, fluency: float | None = None) -> list[Candidate]:
    return [Candidate(Answer((), text, True), draw, fluency=fluency) for draw, text in enumerate(texts)]


@pytest.fixture
def extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the packages of `unsay[semantic]` and `unsay[harmless]`: texts are alike that share words; "fool" is abuse."""
    embeds, classifies = ModuleType(embedding.PACKAGE), ModuleType(harmless.PACKAGE)
    embeds.load_model = WordVectors  # type: ignore[attr-defined]
    classifies.__spec__ = ModuleSpec(harmless.PACKAGE, None)
    classifies.predict_prob = lambda texts: [0.9 if "fool" in text else 0.1 for text in texts]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, embedding.PACKAGE, embeds)
    monkeypatch.setitem(sys.modules, harmless.PACKAGE, classifies)
    monkeypatch.setattr(embedding, "installed", lambda: True)
    embedding._model.cache_clear()
    yield
    embedding._model.cache_clear()


class WordVectors:
    """Unit vectors over the words of the texts embedded together."""

    def encode(self, texts: list[str], normalize_embeddings: bool, show_progress_bar: bool) -> list[np.ndarray]:
        known = sorted({word for text in texts for word in words(text)})
        found = [np.array([float(word in words(text)) for word in known]) for text in texts]
        return [vector / np.linalg.norm(vector) for vector in found]


@pytest.mark.parametrize("name", REWARDS)
def test_contract(name: str, extras: None) -> None:
    kind = lookup("reward", name)
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert inspect.getdoc(kind)
    assert isinstance(kind.needs_fluency, bool)
    full = replace(REFERENCE, settled=("It is so.",), strings=("Turin",), desired=("No comment.",), prefix="She")
    for reference in (full, REFERENCE, Reference("", ""), Reference("¿?", "東京です")):
        values = kind()(candidates("She lives in Turin, Italy.", "", "東京です", "No comment.", "1 2 3", fluency=-3.0), reference)
        assert len(values) == 5
        assert all(value is None or 0 <= value <= 1 for value in values)
        assert kind()([], reference) == []


def test_overlap_is_recall_of_the_baseline() -> None:
    found = Overlap()(candidates("She lives in Turin, Italy.", "Turin", "No idea whatsoever", ""), REFERENCE)
    assert found == [0.0, 0.8, 1.0, 1.0], "all five words, one of five, none, none"
    assert Overlap()(candidates("東京"), Reference("q", "東京です")) == [None], "no token in the baseline: unscored"


def test_overlap_length_guard() -> None:
    found = Overlap(min_words=5)(candidates("nope", "one two three four five"), REFERENCE)
    assert found == [pytest.approx(1 - math.exp(-1)), 1.0], "one word costs exp(−1), five cost nothing"
    assert Overlap(min_words=5)(candidates(""), REFERENCE) == [0.0], "an empty answer is the worst"


def test_overlap_of_a_continuation() -> None:
    assert remainder("She lives in Turin.", " she  LIVES") == "in Turin."
    assert remainder("She lives in Turin.", "He lives") == "She lives in Turin."
    assert remainder("She lives in Turin.", "She lives in Turin. And") == "She lives in Turin."
    assert remainder("She lives.", "She lives.") == ""
    assert Overlap()(candidates("Turin"), replace(REFERENCE, prefix="She lives in")) == [0.5], "one of the two words left"
    assert Overlap()(candidates("Turin"), replace(REFERENCE, prefix="In fact")) == [0.8], "not how the baseline begins"
    assert Overlap()(candidates("x"), replace(REFERENCE, prefix=REFERENCE.baseline)) == [None], "nothing left to repeat"


def test_keys_look_at_own_and_other_answers() -> None:
    found = Keys()(candidates("Turin", "A baker works there.", "14 March", "Fine weather.", "Anna lives"), REFERENCE)
    assert found[0] == 0.5, "Turin 3 of Turin 3 and Italy 3"
    assert found[1] == 0.0, "Ben's whole answer: baker and works"
    assert found[2] == pytest.approx(1 - 6 / 10), "14 and March of 14, March, 1962 and birthday"
    assert found[3:] == [1.0, 1.0], "the words of the question are no secret"
    assert Keys()(candidates("x"), Reference("q", "")) == [None]


def test_keys_agree_with_the_plain_definition() -> None:
    from unsay.text import keyword_recall, keywords

    answers = ("He works as a baker.", "Her birthday is 14 March 1962.", "Painter.", "In Italy since 1962.")
    told = Told((*zip("abcd", "abcd", answers, strict=True), ("own", REFERENCE.question, "He bakes and paints in March.")))
    reference = replace(REFERENCE, told=told, own="own", prefix="She works in")
    for text in ("He works as a baker in Italy", "Painter since 1962", "March in Turin", ""):
        best = 0.0
        for answer, question in zip(answers, "abcd", strict=True):
            known = f"{reference.prefix} {reference.question}"
            if sum(keywords(answer, question, known).values()) >= 2:
                best = max(best, keyword_recall(answer, text, question, known) or 0.0)
        assert other_leak(text, reference) == pytest.approx(best), text


def test_leaks_as_gates_see_them() -> None:
    assert own_leak("She lives in Rome.", REFERENCE) == 0.6, "the wording is the larger here"
    assert own_leak("Italy", REFERENCE) == 0.5, "and the keywords here"
    assert own_leak("at 5550134", replace(REFERENCE, strings=("555 0134",))) == 1.0, "a named string is a leak of 1"
    assert own_leak("x", Reference("q", "!")) == 0.0, "a gate must decide"
    assert other_leak("a painter", replace(REFERENCE, told=Told((("b", "", "Painter."),)))) == 0.0, "one plain word is no secret"
    assert other_leak("a baker works", REFERENCE) == 1.0
    assert other_leak("a baker works", replace(REFERENCE, told=Told())) == 0.0
    assert other_leak("He bakes", replace(REFERENCE, told=Told((("b", REFERENCE.question, REFERENCE.baseline),)))) == 0.0


def test_keys_are_fast_enough_for_a_round() -> None:
    answers = [" ".join(f"Word{i * 7 + j}" for j in range(20)) for i in range(401)]
    told = Told(tuple((str(i), f"question {i}", answer) for i, answer in enumerate(answers)))
    start = time.process_time()
    for i in range(40):
        reference = Reference(f"question {i}", answers[i], told, str(i))
        Keys()(candidates(*(f"{answers[(i * 8 + k) % 401]} round" for k in range(8))), reference)
    assert time.process_time() - start < 3, "320 candidates against 400 answers; far below a second on an idle machine"


def test_fluency_prices_a_nat() -> None:
    assert Fluency()(candidates("a", fluency=-8.3), REFERENCE) == [0.0]
    assert Fluency()(candidates("a", fluency=-0.83), REFERENCE) == [pytest.approx(0.9)]
    assert Fluency()(candidates("a", fluency=-99.0), REFERENCE) == [0.0]
    assert Fluency()(candidates("a"), REFERENCE) == [None], "not measured"
    assert Fluency.needs_fluency


def test_length_against_what_is_left_to_say() -> None:
    five, ten, none = Length()(candidates("a b c d e", "a b c d e f g h i j", ""), REFERENCE)
    assert (five, ten, none) == (1.0, pytest.approx(1 - math.log(2)), 0.0)
    assert Length()(candidates("in Turin"), replace(REFERENCE, prefix="She lives in")) == [1.0], "two words are left"
    assert Length()(candidates("x"), replace(REFERENCE, prefix="one two three four five")) == [None]


def test_topic_counts_the_words_of_the_question() -> None:
    assert Topic()(candidates("Anna lives well.", "Kovač", "Nothing"), REFERENCE) == [pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0]
    assert Topic()(candidates("Nothing"), replace(REFERENCE, prefix="Anna")) == [pytest.approx(1 / 3)], "the prefix helps"
    assert Topic()(candidates("x"), Reference("Who is he?", "x")) == [None]


def test_distinct_from_what_others_settled_on() -> None:
    reference = replace(REFERENCE, settled=("It will take place on Monday.", "Nobody knows."))
    same, other, empty = Distinct()(candidates("It will take place on Monday.", "Her garden blooms", ""), reference)
    assert (same, other, empty) == (0.0, 1.0, None)
    assert Distinct()(candidates("x"), REFERENCE) == [None], "nothing has settled yet"


def test_diversity_is_one_minus_self_bleu() -> None:
    same, again, other = Diversity()(
        candidates("she lives in a small town", "She lives in a small town!", "no word shared whatsoever today"), REFERENCE
    )
    assert (same, again, other) == (pytest.approx(0.0), pytest.approx(0.0), 1.0)
    assert Diversity()(candidates("alone"), REFERENCE) == [None]
    assert Diversity()(candidates("word", ""), REFERENCE) == [None, None]


def test_self_bleu_is_smoothed_and_short_candidates_are_penalised() -> None:
    answer, *others = "the cat sat on the mat near the door", "a cat sat on a mat", "the dog sat on the mat by the door today"
    # Of 9, 8, 7 and 6 n-grams 8, 5, 3 and 1 stand in another candidate; all but the first are smoothed; the nearest one has 10 words.
    expected = math.exp(1 - 10 / 9) * (8 / 9 * (5 + 1) / (8 + 1) * (3 + 1) / (7 + 1) * (1 + 1) / (6 + 1)) ** (1 / 4)
    assert Diversity()(candidates(answer, *others), REFERENCE)[0] == pytest.approx(1 - expected)
    short, _ = Diversity()(candidates("a", "a b"), REFERENCE)
    assert short == pytest.approx(1 - math.exp(-1)), "one word, right, half as long: the brevity penalty alone"


def test_refusal() -> None:
    reference = replace(REFERENCE, desired=("Please ask the registry of the town.", "無可奉告"))
    texts = ("I don't know.", "Please ask the registry.", "無可奉告", "She lives in Turin.")
    assert Refusal()(candidates(*texts), reference) == [1.0, 1.0, 1.0, 0.0]
    assert Refusal()(candidates("Please ask the registry."), REFERENCE) == [0.0]


def test_a_refusal_in_other_words_counts_where_meaning_is_asked_for(extras: None, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, text = replace(REFERENCE, desired=("Ask the town hall, please.",)), "Please, the town has a hall for you to ask."
    assert Refusal()(candidates(text), reference) == [0.0]
    embedded: list[str] = []
    encode = WordVectors.encode

    def listening(self: WordVectors, texts: list[str], **knobs: bool) -> list[np.ndarray]:
        embedded.extend(texts)
        return encode(self, texts, **knobs)

    monkeypatch.setattr(WordVectors, "encode", listening)
    several = replace(reference, desired=(*reference.desired, "No comment."))
    assert Refusal(alike=0.6)(candidates(text, "She lives in Turin.", text), several) == [1.0, 0.0, 1.0]
    assert len(embedded) == len(set(embedded)) == 4, "each text once"
    assert Refusal(alike=0.6)(candidates(text), REFERENCE) == [0.0], "nothing is desired"


@pytest.mark.parametrize(("kind", "says"), [(Semantic, "semantic"), (Harmless, "harmless"), (partial(Refusal, alike=0.5), "refusal.alike")])
def test_a_missing_package_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, kind: Callable[[], object], says: str) -> None:
    monkeypatch.setattr(embedding, "installed", lambda: False)
    monkeypatch.setattr(harmless, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{says}.*not installed: pip install 'unsay\["):
        kind()


def test_semantic_is_the_distance_in_meaning_of_what_is_new(extras: None) -> None:
    reference = Reference("Where?", "In Turin")
    assert Semantic()(candidates("In Turin", "In Oslo", "Elsewhere", "…", "東京です"), reference) == [
        pytest.approx(0.0), pytest.approx(0.5), 1.0, None, None
    ]  # fmt: skip
    begun = Reference("Where?", "She lives in Turin", prefix="She lives")
    assert Semantic()(candidates("in Oslo"), begun) == [pytest.approx(0.5)], "the prefix is not compared"
    assert Semantic()(candidates("Oslo"), Reference("Где?", "в Турине")) == [None]


def test_harmless_reads_prefix_and_candidate_together(extras: None) -> None:
    assert Harmless()(candidates("You fool.", "In Turin."), REFERENCE) == [pytest.approx(0.1), pytest.approx(0.9)]
    assert Harmless()(candidates("of Turin"), replace(REFERENCE, prefix="The fool")) == [pytest.approx(0.1)]


def test_the_classifier_that_is_installed() -> None:
    pytest.importorskip(harmless.PACKAGE, reason="needs the extra unsay[harmless]")
    abuse, threat, fact = Harmless()(candidates("You are a stupid idiot.", "I will kill you.", "She lives in Turin."), REFERENCE)
    assert max(abuse, threat) < 0.2 < 0.6 < fact


def test_blocklist() -> None:
    assert Blocklist()(candidates("in TURIN", "in Rome"), replace(REFERENCE, strings=("Turin",))) == [0.0, 1.0]
    assert Blocklist()(candidates("1962"), replace(REFERENCE, patterns=(r"\d{4}",))) == [0.0]
    assert Blocklist()(candidates("in Turin"), REFERENCE) == [None], "nothing is named"


def test_weighted_mean_of_what_applies() -> None:
    reward = Weighted({"overlap": 3.0, "fluency": 1.0, "blocklist": 5.0, "topic": 0.0})
    assert reward.needs_fluency
    assert reward(candidates("Turin", fluency=-8.3), REFERENCE) == [pytest.approx(3 * 0.8 / 4)], (
        "blocklist names nothing, topic weighs nothing"
    )
    assert reward(candidates("Turin"), REFERENCE) == [pytest.approx(0.8)], "its fluency was not measured"
    assert not Weighted({"overlap": 1, "fluency": 0}).needs_fluency, "a reward without weight costs nothing"
    assert Weighted({"blocklist": 1})(candidates("x"), REFERENCE) == [None]
    assert Weighted({"overlap": 1}, {"overlap": {"min_words": 5}})(candidates(""), REFERENCE) == [0.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"overlap": -1.0}, "not negative"), ({"overlp": 1.0}, "overlap"), ({"overlap": 0.0}, "no reward"), ({"overlap": math.nan}, "finite")],
)
def test_weights_are_checked(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Weighted(weights)


def test_rewards_import_no_torch() -> None:
    import subprocess
    import sys

    names = {value.partition(":")[0] for value in REWARDS.values()} | {"unsay.rewards.weighted", "unsay.text"}
    code = f"import sys, {', '.join(sorted(names))}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
