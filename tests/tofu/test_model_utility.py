"""The nine numbers of TOFU's model utility: where their rows come from, by hand, on a model, at the edges."""

import math
from statistics import fmean

import pytest
import torch
from scipy.stats import hmean
from transformers import PreTrainedModel

from tests.test_probes import Fake, value
from tests.tofu.conftest import PAPER
from unsay.config import ConfigError, SampleConfig
from unsay.corpora.tofu import Tofu
from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject
from unsay.measure.summary import summarise
from unsay.probes.utility import TOFU, TOFU_METRICS, TOFU_RELEASED, TOFU_SETS, Utility, chosen, truthfulness
from unsay.record.recorded import corpus_rows, read_handed
from unsay.store.folder import RunFolder
from unsay.types import Case, Corpus, Quiz


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
    rows = [*corpus_rows(corpus)]
    folder.texts.write("corpus", rows)
    assert read_handed(folder) == corpus
    folder.texts.write("corpus", [row for row in rows if row["kind"] != "model_utility"])
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
    ("metrics", "key", "nine"),
    [
        (
            TOFU,
            "model_utility",  # arithmetic means; options as whole answers, p³
            (0.5, 0.5, 1 - 0.15 / 0.4, 0.216 / (0.216 + 0.027 + 0.008), 1, 1 - 0.25 / 0.6, 64 / (64 + 8 + 1), 1, 1 - 0.1875 / 0.5),
        ),
        (
            TOFU_RELEASED,
            "model_utility_released",  # geometric means; options by probability per token
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
def test_the_nine_numbers_by_hand(metrics, key, nine):
    found = Utility()(Fake(SAID, lambda _, text: math.log(CHANCES[text])), Case(QUIZ, {}, ""))
    by_name = {(f.setting, f.metric): f.value for f in found}
    numbers = summarise(found)
    assert [by_name[name, metric] for name in TOFU_SETS for metric in metrics] == pytest.approx(list(nine))
    assert numbers[key] == pytest.approx(9 / sum(1 / x for x in nine))
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
    assert len(found) == 15, "nine by the paper, six more by the released code"
    assert Utility(model_utility=0)(subject, Case(QUIZ, {}, "")) == []


def test_the_first_rows_of_each_set_count():
    rows = tuple(Quiz(f"r{i}", f"Who is {i}?", "Bo", "", ("Bo",), ("Cy",)) for i in range(9))
    corpus = Corpus("many", (), model_utility={**QUIZ.model_utility, "retain": rows})
    found = Utility(model_utility=4)(Fake({}, lambda *_: -1.0), Case(corpus, {}, ""))
    assert [f.example for f in found if (f.metric, f.setting) == ("tofu_probability", "retain")] == ["r0", "r1", "r2", "r3"]
    assert value(found, "tofu_truth_ratio", "r0", "retain") == 0.0


def test_knobs_of_model_utility():
    with pytest.raises(ConfigError, match=r"utility\.model_utility"):
        Utility(model_utility=-1)
