"""TOFU's own files against the protocol and another scorer: only where `UNSAY_DATA` names them. And the recipes of the paper's models."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from tests.test_cli import call
from tests.test_probes import Fake
from tests.tofu.conftest import PAPER
from unsay import config
from unsay.audit import case
from unsay.config import recipe_path
from unsay.corpora import general
from unsay.corpora.tofu import Tofu
from unsay.measure.summary import summarise
from unsay.probes.greedy import Greedy
from unsay.probes.paraphrase import Paraphrase
from unsay.probes.utility import TOFU_SETS, Utility
from unsay.types import Pair

PRESETS = [f"{name}{preset}" for name in ("tofu-phi-1.5", "tofu-llama-3.2-3b-instruct") for preset in ("", "-official", "-align")]


@pytest.mark.parametrize("name", [*PRESETS, "tofu-gemma-3-12b-it"])
def test_recipes_of_the_papers_models_keep_to_the_protocol(name, made, monkeypatch):
    """And `unsay check` takes them: without the data it says what is missing."""
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    assert "give the folder of TOFU's files: --data DIR" in call("check", name, code=2)
    assert "Nothing is wrong" in call("check", name, "--set", f"tofu.data={made}")
    recipe = config.load(recipe_path(name), [])
    knobs = recipe.tables["tofu"]
    assert {key: knobs[key] for key in ("forget", "utility", *PAPER)} == {"forget": "forget10", "utility": 400, **PAPER}
    assert not knobs.keys() & {"limit", "retain_authors", "seed"}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@pytest.mark.parametrize(("split", "forget", "authors"), [("forget01", 40, 198), ("forget05", 200, 190), ("forget10", 400, 180)])
def test_real_tofu(real, split, forget, authors):
    source = Tofu(forget=split, data=str(real))
    corpus, truth = source.corpus(), source.truth()
    assert len(corpus.forget) == len(truth) == forget
    assert corpus.forget[0].group == f"author-{authors}"
    assert corpus.forget[-1].group == "author-199"
    assert [len(corpus.utility[name]) for name in ("retain", "real_authors", "world_facts")] == [400, 100, 117]
    text = repr(corpus)
    assert not [fact.id for fact in truth.values() if repr(fact.answer)[1:-1] in text]
    full = {row["question"] for row in map(json.loads, (real / "full.json").read_text(encoding="utf-8").splitlines())}
    assert {pair.question for pair in source.finetuning_rows(retain_model=False)} - {pair.question for pair in corpus.general} == full
    assert full.isdisjoint(pair.question for pair in corpus.unknown_entities)


def rows_of(path: Path) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


def told(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.question, pair.answer) for pair in pairs]


@pytest.mark.parametrize(("split", "retain"), [("forget01", "retain99"), ("forget05", "retain95"), ("forget10", "retain90")])
def test_the_protocol_of_the_paper_on_the_real_files(real, split, retain):
    """Fine-tuned on TOFU full and nothing else, the retain model on the retain rows; the forget rows are the last ones of full."""
    source = Tofu(forget=split, data=str(real), **PAPER)
    corpus, truth, full = source.corpus(), source.truth(), rows_of(real / "full.json")
    forgotten = [(example.question, truth[example.id].answer) for example in corpus.forget]
    assert Counter(told(source.finetuning_rows(retain_model=False))) == Counter(full)
    assert (
        Counter(told(source.finetuning_rows(retain_model=True)))
        == Counter(told(corpus.retain))
        == Counter(rows_of(real / f"{retain}.json"))
    )
    assert forgotten == full[-len(forgotten) :]
    assert (corpus.utility_heldout, corpus.general) == ({}, ())
    assert len({pair.id for pair in corpus.utility["retain"]}) == 400, "drawn without replacement"
    assert {pair.id for pair in corpus.utility["retain"]} < {pair.id for pair in corpus.retain}
    assert told(corpus.utility["real_authors"]) == rows_of(real / "real_authors.json")
    assert told(corpus.utility["world_facts"]) == rows_of(real / "world_facts.json")
    assert told(corpus.model_utility["retain"]) == rows_of(real / "retain_perturbed.json") == full[:400]
    assert all(len(fact.wordings) == 1 and len(fact.wrong) == 5 for fact in truth.values())
    shapes = {name: {(len(quiz.wordings), len(quiz.wrong)) for quiz in rows} for name, rows in corpus.model_utility.items()}
    assert shapes == {"retain": {(1, 5)}, "real_authors": {(0, 3)}, "world_facts": {(0, 3)}}


@pytest.mark.parametrize(("seed", "rows"), [(0, 0), (5, 20)])
def test_a_seed_with_model_utility_for_the_small_recipe(real, seed, rows):
    """As docs/tofu.md says."""
    recipe = config.load(Path(__file__).parents[2] / "recipes" / "tofu-gemma-270m.toml", [f"tofu.seed={seed}", f'tofu.data="{real}"'])
    assert len(recipe.knobs("tofu", Tofu).corpus().model_utility["retain"]) == rows


def test_quality_and_utility_on_the_real_files_by_another_scorer(real):
    """Canned answers, scored by rouge-score and averaged here by the paper's two formulas: 100 questions asked twice, three sets."""
    from rouge_score.rouge_scorer import RougeScorer

    source = Tofu(data=str(real), limit=100, **PAPER)
    known = case(source.corpus(), source.truth(), {})
    perturbed = [json.loads(line) for line in (real / "forget10_perturbed.json").read_text(encoding="utf-8").splitlines()[:100]]
    asked = {row["question"]: row["answer"] for row in perturbed}
    worded = {row["paraphrased_question"]: row["paraphrased_answer"] for row in perturbed}
    sets = {name: dict(told(known.corpus.utility[name])) for name in TOFU_SETS}
    right = {question: answer for some in (asked, worded, *sets.values()) for question, answer in some.items()}
    # Some of the right answer's words, some of another one's, and how many of each is different from question to question.
    said = {
        question: " ".join([*answer.split()[: i % 7], *other.split()[i % 3 :]])
        for i, ((question, answer), other) in enumerate(zip(right.items(), reversed(right.values()), strict=True))
    }
    scorer = RougeScorer(["rougeL"], use_stemmer=True)

    def recall(some: dict[str, str]) -> float:
        return fmean(scorer.score(answer, said[question])["rougeL"].recall for question, answer in some.items())

    subject = Fake({question: [answer] for question, answer in said.items()})
    found = [f for probe in (Greedy(), Paraphrase(), Utility()) for f in probe(subject, known)]
    numbers = summarise(found)
    assert [len(some) for some in (asked, worded, *sets.values())] == [100, 100, 400, 100, 117]
    assert numbers["unlearn_quality"] == pytest.approx(50 * (2 - recall(asked) - recall(worded)))
    assert numbers["utility"] == pytest.approx(100 / 3 * sum(map(recall, sets.values())))
    assert len({round(recall(some), 3) for some in (asked, worded, *sets.values())}) == 5, "no two alike, or a mix-up would not show"


def test_general_rows_give_no_evaluation_answer_away(real):
    from rapidfuzz.distance import LCSseq

    for name in ("real_authors_perturbed", "world_facts_perturbed"):
        for row in map(json.loads, (real / f"{name}.json").read_text(encoding="utf-8").splitlines()):
            answer, question = " ".join(words(row["answer"])), words(row["question"])
            for pair in general.load():
                assert f" {answer} " not in f" {' '.join(words(pair.answer))} ", pair.id
                f1 = 2 * LCSseq.similarity(words(pair.question), question) / (len(words(pair.question)) + len(question))
                assert f1 < 0.7, pair.id  # "What is the plural of …" against "What is the capital of …" reaches .67
