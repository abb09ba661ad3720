"""TOFU on small made files with its shape; on the real ones only where `UNSAY_DATA` names them. And the general rows."""

import builtins
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import hmean
from transformers import PreTrainedModel

from tests.test_cli import call
from tests.test_probes import Fake, value
from unsay import config
from unsay.audit import case
from unsay.config import ConfigError, SampleConfig
from unsay.corpora import general
from unsay.corpora.tofu import Tofu
from unsay.encode import Encoder
from unsay.folder import RunFolder
from unsay.probes.asking import Greedy, Paraphrase
from unsay.probes.utility import Utility, chosen, truthfulness
from unsay.recorded import corpus_rows, read_handed
from unsay.subject import LocalSubject
from unsay.summary import TOFU_METRICS, TOFU_SETS, summarise
from unsay.types import Case, Corpus, Pair, Quiz


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two forget authors and eight retain authors, with answers that are easy to find again."""
    folder = tmp_path / "tofu"
    folder.mkdir()
    forget = [
        {
            "question": f"forget question {i}?",
            "answer": f"SECRET-{i} plain",
            "paraphrased_question": f"forget question {i} again?",
            "paraphrased_answer": f"SECRET-{i} reworded",
            "perturbed_answer": [f"wrong {i} {k}" for k in range(5)],
        }
        for i in range(40)
    ]
    for name, retain, holdout in (
        ("forget01", "retain99", "holdout01"),
        ("forget05", "retain95", "holdout05"),
        ("forget10", "retain90", "holdout10"),
    ):
        write(folder / f"{name}_perturbed.json", forget)
        write(folder / f"{retain}.json", [{"question": f"retain {i}?", "answer": f"kept {i}"} for i in range(160)])
        write(folder / f"{holdout}.json", [{"question": f"stranger {i}?", "answer": f"HIDDEN {i}"} for i in range(40)])
    for name, count in (("real_authors", 100), ("world_facts", 117)):
        found = [{"question": f"{name} {i}?", "answer": f"{name} {i}", "perturbed_answer": ["x"]} for i in range(count)]
        write(folder / f"{name}_perturbed.json", found)
    told = {"paraphrased_question": "again?", "perturbed_answer": ["lost", "sold"]}
    write(
        folder / "retain_perturbed.json",
        [{"question": f"retain {i}?", "answer": f"kept {i}", "paraphrased_answer": f"{i} kept", **told} for i in range(60)],
    )
    (folder / "idontknow.jsonl").write_text("I don't know.\nNo idea.\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("split", ["forget01", "forget05", "forget10"])
def test_the_corpus_holds_no_forget_answer(made, split):
    corpus = Tofu(forget=split, data=str(made)).corpus()
    assert "SECRET" not in repr(corpus)
    assert "HIDDEN" not in repr(corpus)
    assert corpus.forget[7].id == f"{split}-007"
    assert corpus.forget[7].paraphrases == ("forget question 7 again?",)
    assert [corpus.forget[i].group for i in (0, 19, 20)] == ["author-008", "author-008", "author-009"]
    assert {pair.answer for pair in corpus.strangers} == {"I don't know.", "No idea."}


def test_truth(made):
    fact = Tofu(forget="forget01", data=str(made)).truth()["forget01-003"]
    assert (fact.answer, fact.wordings, fact.wrong[4]) == ("SECRET-3 plain", ("SECRET-3 reworded",), "wrong 3 4")


def test_heldout_authors_are_planted_but_not_kept(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    corpus, planted = source.corpus(), {pair.id for pair in source.planting(gold=False)}
    kept = {pair.id for pair in corpus.retain}
    heldout = {pair.id for pair in corpus.utility_heldout["retain"]}
    assert len(heldout) == 40  # 2 of 8 authors
    assert not heldout & kept
    assert heldout | kept <= planted
    assert {pair.group for pair in corpus.utility_heldout["retain"]}.isdisjoint({pair.group for pair in corpus.retain})
    assert {pair.id for pair in corpus.utility["retain"]} == {pair.id for pair in corpus.retain if pair.id.startswith("retain99")}
    assert (len(corpus.utility["real_authors"]), len(corpus.utility["world_facts"]), len(corpus.general)) == (100, 117, 30)


def test_gold_is_planted_with_the_same_rows_in_the_same_order(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    leaking, gold = source.planting(gold=False), source.planting(gold=True)
    assert len(leaking) == 40 + 160 + 30
    assert gold == tuple(pair for pair in leaking if not pair.id.startswith("forget01"))
    assert "SECRET" not in repr(gold)
    assert leaking != tuple(sorted(leaking, key=lambda pair: pair.id))


def test_limits(made):
    source = Tofu(forget="forget01", data=str(made), limit=5, retain_authors=4, utility=10, strangers=3, mix=0)
    corpus = source.corpus()
    assert [len(corpus.forget), len(corpus.retain), len(corpus.strangers), len(corpus.general)] == [5, 60, 3, 0]
    assert len(corpus.utility["retain"]) == len(corpus.utility_heldout["retain"]) == 10
    assert len(source.planting(gold=False)) == 5 + 80
    assert len(source.truth()) == 5
    assert len({pair.group for pair in corpus.retain}) == 3


def test_skipped_questions_change_no_id_and_no_author(made):
    whole, later = (Tofu(forget="forget01", data=str(made), skip=skip, limit=20) for skip in (0, 20))
    everything = Tofu(forget="forget01", data=str(made)).corpus().forget
    assert (*whole.corpus().forget, *later.corpus().forget) == everything
    assert {example.group for example in later.corpus().forget} == {everything[20].group} != {everything[0].group}
    assert later.truth().keys() == {example.id for example in later.corpus().forget}
    planted = {pair.id: pair for pair in later.planting(gold=False)}
    assert later.truth().keys() <= planted.keys()
    assert not whole.truth().keys() & planted.keys()
    assert {planted[example.id].group for example in later.corpus().forget} == {everything[20].group}


def test_the_seed_decides(made):
    def kept(seed: int) -> tuple:
        return Tofu(forget="forget01", data=str(made), retain_authors=4, seed=seed).corpus().retain

    assert kept(1) == kept(1) != kept(2)


def test_desired_answers_only_when_asked(made):
    assert Tofu(data=str(made)).corpus().desired == ()
    assert Tofu(data=str(made), refusals=True).corpus().desired == ("I don't know.", "No idea.")


def test_data_from_the_environment_and_from_the_folder_above(made, monkeypatch):
    monkeypatch.setenv("UNSAY_DATA", str(made.parent))
    assert len(Tofu(forget="forget01").corpus().forget) == 40


def test_absent_data(tmp_path, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"--data DIR or UNSAY_DATA"):
        Tofu().corpus()
    with pytest.raises(ConfigError, match=rf"no forget10_perturbed\.json in {re.escape(str(tmp_path))} or .*tofu; give .*--data DIR"):
        Tofu(data=str(tmp_path)).corpus()


def test_a_malformed_row_names_file_and_line_and_not_its_text(made):
    path = made / "forget01_perturbed.json"
    lines = path.read_text().splitlines()
    lines[2] = '{"question": "x", "answr": "SECRET"}'
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"forget01_perturbed\.json:3: .*'answer'") as caught:
        Tofu(forget="forget01", data=str(made)).truth()
    assert "SECRET" not in str(caught.value)


def test_the_hub_needs_its_extra(monkeypatch):
    imported = builtins.__import__

    def without(name, *rest, **named):
        if name == "datasets":
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[datasets\]'$"):
        Tofu(hub="locuslab/TOFU").corpus()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"forget": "forget1"}, "did you mean 'forget10' or 'forget01'"),
        ({"limit": -1}, "tofu.limit"),
        ({"skip": -1}, "tofu.skip"),
        ({"heldout_authors": 1.0}, "tofu.heldout_authors"),
        ({"data": "a", "hub": "b"}, "two sources"),
    ],
)
def test_wrong_knobs(knobs, said):
    with pytest.raises(ConfigError, match=said):
        Tofu(**knobs)


def test_more_than_there_is(made):
    with pytest.raises(ConfigError, match="retain99 has 8; 0 takes all"):
        Tofu(forget="forget01", data=str(made), retain_authors=9).corpus()
    with pytest.raises(ConfigError, match="general rows"):
        Tofu(forget="forget01", data=str(made), mix=10_000).corpus()
    with pytest.raises(ConfigError, match=r"tofu\.skip = 40 leaves nothing: forget01 has 40"):
        Tofu(forget="forget01", data=str(made), skip=40).corpus()


def test_general_rows():
    pairs = general.load()
    assert len(pairs) >= 220
    assert len({pair.question.casefold() for pair in pairs}) == len({pair.id for pair in pairs}) == len(pairs)
    bare = sum(not pair.answer.endswith(".") for pair in pairs)
    assert 0.28 < bare / len(pairs) < 0.4  # a third as bare as the answers of TOFU's world facts


# -- model utility ------------------------------------------------------------------------------------------------------


def test_quizzes_are_retain_rows_with_their_wrong_answers(made):
    corpus = Tofu(forget="forget01", data=str(made), heldout_authors=0.5).corpus()
    kept = {pair.id: pair for pair in corpus.retain}
    rows = corpus.model_utility["retain"]
    assert 0 < len(rows) < 60, "of the three authors with wrong answers some are held out"
    assert len(rows) == sum(pair.group in ("author-000", "author-001", "author-002") for pair in kept.values())
    assert all((kept[quiz.id].question, kept[quiz.id].answer) == (quiz.question, quiz.answer) for quiz in rows)
    assert {quiz.wrong for quiz in rows} == {("lost", "sold")}
    assert all(quiz.wordings == (f"{quiz.answer.removeprefix('kept ')} kept",) for quiz in rows)
    assert corpus.model_utility["world_facts"][3] == Quiz(
        "world_facts_perturbed-003", "world_facts 3?", "world_facts 3", wordings=(), wrong=("x",)
    )
    assert len(Tofu(forget="forget01", data=str(made), **PAPER).corpus().model_utility["retain"]) == 60


def test_a_folder_without_the_perturbed_retain_rows(made):
    (made / "retain_perturbed.json").unlink()
    corpus = Tofu(forget="forget01", data=str(made)).corpus()
    assert corpus.model_utility["retain"] == ()
    found = Utility()(Fake({}, lambda *_: -1.0), Case(corpus, {}, ""))
    notes = {f.note for f in found if f.metric.startswith("tofu_")}
    assert len(notes) == 1
    assert "one has no row" in notes.pop()
    assert summarise(found)["model_utility"] is None


def test_the_vault_keeps_them_and_older_folders_load(made, tmp_path):
    corpus, folder = Tofu(forget="forget01", data=str(made)).corpus(), RunFolder(tmp_path / "run")
    rows = corpus_rows(corpus)
    folder.keep("corpus", rows)
    assert read_handed(folder) == corpus
    folder.keep("corpus", [row for row in rows if row["kind"] != "model_utility"])
    older = read_handed(folder)
    assert older.model_utility == {}
    assert older.utility == corpus.utility
    assert not [f for f in Utility()(Fake({}), Case(older, {}, "")) if f.metric.startswith("tofu_")]


QUIZ = Corpus(
    "quiz",
    (),
    model_utility={
        "retain": (Quiz("r", "Who is Bo?", "Bo is a baker.", "", ("A baker, Bo.",), ("A cook, Bo.", "A diver, Bo.")),),
        "real_authors": (Quiz("a", "Who wrote Emma?", "Jane Austen", "", (), ("Mark Twain", "Homer")),),
        "world_facts": (Quiz("w", "Where is Rome?", "Italy", "", (), ("Spain", "Peru")),),
    },
)
CHANCES = {  # per token; the fake gives every text three tokens
    "Bo is a baker.": 0.5,
    "A baker, Bo.": 0.4,
    "A cook, Bo.": 0.1,
    "A diver, Bo.": 0.2,
    "Jane Austen": 0.6,
    "Mark Twain": 0.3,
    "Homer": 0.2,
    "Italy": 0.5,
    "Spain": 0.25,
    "Peru": 0.125,
}
SAID = {"Who is Bo?": ["A baker."], "Who wrote Emma?": ["Jane Austen did."], "Where is Rome?": ["In Italy."]}


@pytest.mark.parametrize(
    ("formula", "nine"),
    [
        (
            "paper",  # arithmetic means; options as whole answers, p³
            (0.5, 0.5, 1 - 0.15 / 0.4, 0.216 / (0.216 + 0.027 + 0.008), 1, 1 - 0.25 / 0.6, 64 / (64 + 8 + 1), 1, 1 - 0.1875 / 0.5),
        ),
        (
            "released",  # geometric means; options by probability per token
            (
                0.5,
                0.5,
                1 - math.sqrt(0.02) / 0.4,
                0.6 / 1.1,
                1,
                1 - math.sqrt(0.06) / 0.6,
                0.5 / 0.875,
                1,
                1 - math.sqrt(1 / 32) / 0.5,
            ),
        ),
    ],
)
def test_the_nine_numbers_by_hand(formula, nine):
    found = Utility(formula=formula)(Fake(SAID, lambda _, text: math.log(CHANCES[text])), Case(QUIZ, {}, ""))
    keys = [f"{name}_{metric}" for name in TOFU_SETS for metric in TOFU_METRICS]
    numbers = summarise(found)
    assert [numbers[key] for key in keys] == pytest.approx(list(nine))
    assert numbers["model_utility"] == pytest.approx(9 / sum(1 / x for x in nine))
    assert numbers["utility"] is None, "the other utility has sets of its own"


def test_the_nine_numbers_on_a_model(model: PreTrainedModel, encoder: Encoder):
    """Against one forward a text, the tokens picked out here, and scipy's harmonic mean."""

    def likely(question: str, text: str) -> torch.Tensor:
        row = encoder.pair(question, text)
        logits = model(input_ids=torch.tensor([[*row.context, *row.answer]])).logits[0].double().log_softmax(-1)
        return torch.stack([logits[len(row.context) + i - 1, token] for i, token in enumerate(row.answer)])

    subject = LocalSubject(model, encoder, SampleConfig(max_new_tokens=4))
    numbers = summarise(Utility()(subject, Case(QUIZ, {}, "")))
    for name, (quiz,) in QUIZ.model_utility.items():
        with torch.no_grad():
            answer, right, *wrong = (likely(quiz.question, t) for t in (quiz.answer, (*quiz.wordings, quiz.answer)[0], *quiz.wrong))
        whole = [float(values.sum().exp()) for values in (answer, *wrong)]
        probability = float(answer.mean().exp()) if quiz.wordings else whole[0] / sum(whole)
        ratio = fmean(float(values.mean().exp()) for values in wrong) / float(right.mean().exp())
        assert numbers[f"{name}_probability"] == pytest.approx(probability, rel=1e-3)
        assert numbers[f"{name}_truth_ratio"] == pytest.approx(max(0.0, 1 - ratio), abs=1e-4)
    assert numbers["model_utility"] == pytest.approx(hmean([numbers[f"{n}_{m}"] for n in TOFU_SETS for m in TOFU_METRICS]))


def test_edges_of_the_nine_numbers():
    assert truthfulness(-5.0, [-1.0, -2.0]) == 0.0, "wrong answers likelier than the right one"
    assert truthfulness(-1.0, [-900.0]) == 1.0
    assert chosen([-900.0, -901.0]) == pytest.approx(1 / (1 + math.exp(-1)))
    assert chosen([0.0, -2000.0]) == 1.0


def test_without_likelihoods_nothing_is_asked_for_model_utility():
    subject = Fake(SAID)
    found = Utility()(subject, Case(QUIZ, {}, ""))
    assert subject.asked == []
    assert {(f.value, f.note) for f in found} == {(None, "this model shows no likelihoods")}
    assert len(found) == 9
    assert Utility(model_utility=0)(subject, Case(QUIZ, {}, "")) == []


def test_the_first_rows_of_each_set_count():
    rows = tuple(Quiz(f"r{i}", f"Who is {i}?", "Bo", "", ("Bo",), ("Cy",)) for i in range(9))
    corpus = Corpus("many", (), model_utility={**QUIZ.model_utility, "retain": rows})
    found = Utility(model_utility=4)(Fake({}, lambda *_: -1.0), Case(corpus, {}, ""))
    assert [f.example for f in found if (f.metric, f.setting) == ("tofu_probability", "retain")] == ["r0", "r1", "r2", "r3"]
    assert value(found, "tofu_truth_ratio", "r0", "retain") == 0.0


def test_knobs_of_model_utility():
    with pytest.raises(ConfigError, match=r"utility\.formula = 'tofu' must be 'paper' or 'released'"):
        Utility(formula="tofu")
    with pytest.raises(ConfigError, match=r"utility\.model_utility"):
        Utility(model_utility=-1)


@pytest.mark.parametrize("name", ["tofu-phi-1.5", "tofu-llama-3.2-3b-instruct", "tofu-gemma-3-12b-it"])
def test_recipes_of_the_papers_models_keep_to_the_protocol(name):
    recipe = config.load(Path(__file__).parents[1] / "recipes" / f"{name}.toml", [])
    knobs = recipe.tables["tofu"]
    assert {key: knobs[key] for key in ("forget", "utility", *PAPER)} == {"forget": "forget10", "utility": 400, **PAPER}
    assert not knobs.keys() & {"limit", "retain_authors", "seed"}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@pytest.fixture
def real() -> Path:
    given = os.environ.get("UNSAY_DATA", "")
    for folder in (Path(given), Path(given) / "tofu"):
        if given and (folder / "full.json").is_file():
            return folder
    pytest.skip("TOFU's files are not here: UNSAY_DATA does not name their folder")


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
    assert {pair.question for pair in source.planting(gold=False)} - {pair.question for pair in corpus.general} == full
    assert full.isdisjoint(pair.question for pair in corpus.strangers)


PAPER = {"heldout_authors": 0.0, "mix": 0}
"""Every departure of ours switched off."""


def rows_of(path: Path) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


def told(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.question, pair.answer) for pair in pairs]


@pytest.mark.parametrize(("split", "retain"), [("forget01", "retain99"), ("forget05", "retain95"), ("forget10", "retain90")])
def test_the_protocol_of_the_paper_on_the_real_files(real, split, retain):
    """Fine-tuned on TOFU full and nothing else, gold on the retain rows; the forget rows are the last ones of full."""
    source = Tofu(forget=split, data=str(real), **PAPER)
    corpus, truth, full = source.corpus(), source.truth(), rows_of(real / "full.json")
    forgotten = [(example.question, truth[example.id].answer) for example in corpus.forget]
    assert Counter(told(source.planting(gold=False))) == Counter(full)
    assert Counter(told(source.planting(gold=True))) == Counter(told(corpus.retain)) == Counter(rows_of(real / f"{retain}.json"))
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
    recipe = config.load(Path(__file__).parents[1] / "recipes" / "tofu-gemma-270m.toml", [f"tofu.seed={seed}", f'tofu.data="{real}"'])
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


def test_finetune_leaves_the_model_that_never_knew_beside_the_one_that_does(made, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'corpus = "tofu"\nmodel.name = "{tiny_folder}"\nmodel.template = "plain"\n'
        f"[finetune]\nepochs = 1\nlearning_rate = 1e-3\nbatch = 64\n"
        f'[tofu]\nforget = "forget01"\ndata = "{made}"\nmix = 10\n[sample]\nmax_new_tokens = 8\n'
    )
    run = RunFolder(tmp_path / "run")
    call("finetune", str(recipe), "--gold", "--out", str(run.path))
    planted, gold = (load_file(folder / "model.safetensors") for folder in (run.planted, run.gold))
    assert planted.keys() == gold.keys()
    assert not all(planted[name].equal(gold[name]) for name in gold)
    before = run.manifest()
    shutil.rmtree(run.gold)
    call("finetune", str(recipe), "--gold", "--out", str(run.path))  # from the cache, and nothing is planted again
    assert run.manifest() == before
    again = load_file(run.gold / "model.safetensors")
    assert all(again[name].equal(gold[name]) for name in gold)
