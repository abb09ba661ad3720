"""DPO, NPO, SimNPO, AltPO and the refusals: literal numbers, what the loss moves, what is found out before the first step."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.conftest import tiny_model
from tests.test_methods import BASELINE, QUESTION, parrot, visit
from unsay.config import ConfigError, SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.lm.sampler import Sampler
from unsay.methods import Method, Prepared
from unsay.methods.alternatives import AlternatePreference
from unsay.methods.control import RetainOnly
from unsay.methods.gradient import GradientAscent, GradientDifference
from unsay.methods.pmc import PartialModelCollapse
from unsay.methods.preference import DirectPreference, NegativePreference, SimpleNegativePreference, bounded
from unsay.methods.refusal import Idk, refusal_texts
from unsay.methods.refusals import HUNDRED
from unsay.text import is_refusal
from unsay.train.step import dealt, less_padded, micro_batches
from unsay.types import Answer, Example

REFUSAL = "I don't know."
PAIRED = [DirectPreference, AlternatePreference]


def rows_of(encoder: Encoder) -> list[Row]:
    """Two pairs whose answers differ in length, with references as if from another model, and a retain row."""
    return [
        replace(encoder.pair(QUESTION, BASELINE, "forget"), reference=-190.0, pair="a"),
        replace(encoder.pair(QUESTION, REFUSAL, "preferred"), reference=-85.0, pair="a"),
        replace(encoder.pair("And Bob?", "Oslo.", "forget"), reference=-41.5, pair="b"),
        replace(encoder.pair("And Bob?", "Who knows.", "preferred"), reference=-60.25, pair="b"),
        encoder.pair("Who?", "Bob.", "retain"),
    ]


def logp(model: PreTrainedModel, row: Row) -> float:
    """Of the whole answer, in float64: one row, no padding, numpy for everything behind the logits."""
    logits = model(torch.tensor([row.context + row.answer])).logits[0, len(row.context) - 1 : -1].detach().numpy().astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    found = shifted[np.arange(len(row.answer)), list(row.answer)] - np.log(np.exp(shifted).sum(axis=1))
    return float(found.sum())


def force(margins: list[float], beta: float) -> float:
    return float(np.mean([2 / beta * math.log1p(math.exp(-beta * margin)) for margin in margins]))


# -- the losses, against an independent computation ----------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.5])
@pytest.mark.parametrize("name", ["npo", "simnpo", "dpo", "altpo"])
def test_the_loss_is_the_formula(model, encoder, name: str, beta: float):
    first, better, second, other, kept = rows = rows_of(encoder)
    method, margins = {
        "npo": (NegativePreference(beta, 1.5), [row.reference - logp(model, row) for row in (first, second)]),
        "simnpo": (SimpleNegativePreference(beta, 0.75, 1.5), [-logp(model, row) / len(row.answer) - 0.75 for row in (first, second)]),
        "dpo": (
            DirectPreference(beta, 1.5),
            [logp(model, won) - won.reference - (logp(model, lost) - lost.reference) for won, lost in ((better, first), (other, second))],
        ),
        "altpo": (
            AlternatePreference(beta, 1.5),
            [logp(model, won) - won.reference - (logp(model, lost) - lost.reference) for won, lost in ((better, first), (other, second))],
        ),
    }[name]
    terms = method.loss(model, None, encoder.batch(rows))
    wanted = {"forget": force(margins, beta), "retain": 1.5 * -logp(model, kept) / len(kept.answer)}
    assert {key: term.item() for key, term in terms.items()} == pytest.approx(wanted, rel=1e-5)


def test_literal_numbers(encoder):
    """Margins −3, 0 and 10 at β = .1: 20·ln(1 + e^.3), 20·ln 2, 20·ln(1 + e^−1); the retain row counts for nothing."""
    rows = [encoder.pair("Who?", "Bob.", role) for role in ("forget", "forget", "forget", "retain")]
    value = bounded(torch.tensor([-3.0, 0.0, 10.0, 5.0]), 0.1, encoder.batch(rows))
    assert value.item() == pytest.approx((17.087105 + 13.862944 + 6.265234) / 3, abs=1e-5)


@pytest.mark.parametrize("kind", PAIRED)
def test_it_does_not_matter_how_a_step_is_cut(model, encoder, kind):
    """In three micro-batches, a pair or the retain row each, the terms add up to those of the whole."""
    rows = rows_of(encoder)
    whole = kind().loss(model, None, encoder.batch(rows))
    cut = [kind().loss(model, None, encoder.batch(part, of=rows)) for part in micro_batches(rows, 5)]
    assert len(cut) == 3
    for name, term in whole.items():
        assert sum(part[name].item() for part in cut) == pytest.approx(term.item(), rel=1e-6)


def test_batches_are_cut_where_that_saves_padding():
    """Sixty-one short rows and a pair with a long one: its padding of 61 · 89 tokens is more than a batch costs. The pair stays whole, with
    its longer row; between 10 and 11 tokens nothing is worth a batch."""
    short = [Row((1,) * 8, (2, i)) for i in range(60)] + [Row((1,) * 8, (2, 3, 4))]
    pair = [Row((1,), (2,), "preferred", pair="a"), Row((1,) * 90, (2,) * 10, "rejected", pair="a")]
    parts = list(less_padded([pair[0], *short, pair[1]]))
    assert [len(part) for part in parts] == [2, 61], "the longest first: no gradients lie beside its activations"
    assert set(map(id, parts[0])) == set(map(id, pair))
    assert [len(part) for part in less_padded(short)] == [61]
    assert [len(part) for part in less_padded([short[0], Row((1,) * 100, (2,))])] == [2], "one row's padding is less than a batch costs"


def test_a_step_that_is_cut_is_the_whole_step(model, encoder):
    """Terms and gradients, for every kind of loss of this file's methods."""
    short, long = (1,) * 5, (1,) * 60
    for kind, other in (
        (NegativePreference(), ""),
        (SimpleNegativePreference(), ""),
        (DirectPreference(), "preferred"),
        (GradientDifference(), ""),
    ):
        rows = []
        for i in range(12):
            row = Row((1, 5, i), (7, i, *(long if i % 3 else short)), pair=f"p{i}" if other else "", reference=-2.0)
            rows += [row, *([replace(row, answer=(9, i, 4), role=other)] if other else []), Row((1, 6, i), (8, i), "retain")]
        parts = list(less_padded(rows))
        assert len(parts) > 1
        found = []
        for batches in ([rows], parts):
            model.zero_grad()
            terms = [kind.loss(model, None, encoder.batch(part, of=rows)) for part in batches]
            torch.stack([value for one in terms for value in one.values()]).sum().backward()
            found.append(
                (sum(float(one[name]) for one in terms for name in one), [p.grad.clone() for p in model.parameters() if p.grad is not None])
            )
        (whole, slopes), (cut, others) = found
        assert cut == pytest.approx(whole, rel=1e-4)
        assert all(torch.allclose(one, another, atol=1e-5) for one, another in zip(slopes, others, strict=True))


def test_micro_batches_keep_pairs_and_sort_the_rest(encoder):
    texts = ["four words are here", "a", "two words", "no more than that, but long"]
    alone = [encoder.pair("Who?", text) for text in texts]
    assert [[len(row.answer) for row in part] for part in micro_batches(alone, 2)] == [[3, 11], [21, 29]]
    parts = list(micro_batches(rows_of(encoder), 3))
    assert sorted(row.pair for part in parts for row in part) == ["", "a", "a", "b", "b"]
    assert all(sum(row.pair == name for row in part) in (0, 2) for part in parts for name in "ab")


def test_every_process_gets_rows_of_every_length(encoder):
    """A process with the longest rows would be waited for by all others. Pairs stay whole; with few rows, some processes have none."""
    rows = [Row((1,) * length, (2,)) for length in range(1, 41)]
    rows += [Row((1,) * (length % 40), (2,), pair=str(length // 2)) for length in range(1, 41)]
    lengths = [sum(row.length for row in some) for some in dealt(rows, 3)]
    assert sum(lengths) == sum(row.length for row in rows)
    assert max(lengths) - min(lengths) <= 3, "not more than the shortest row"
    paired = dealt(rows_of(encoder), 2)
    assert sorted(row.pair for some in paired for row in some) == ["", "a", "a", "b", "b"]
    assert all(sum(row.pair == name for row in some) in (0, 2) for some in paired for name in "ab")
    assert [len(some) for some in dealt(rows[:2], 3)] == [1, 1, 0]


def test_npo_begins_as_gradient_ascent(model, encoder):
    """At the reference σ(0)·2 = 1: the force on the answer is the whole of gradient ascent's, and then it fades."""

    def slope(reference: float) -> torch.Tensor:
        row = replace(encoder.pair(QUESTION, BASELINE, "forget"), reference=reference)
        model.zero_grad()
        sum(NegativePreference().loss(model, None, encoder.batch([row])).values()).backward()
        return model.lm_head.weight.grad.clone()

    row = encoder.pair(QUESTION, BASELINE, "forget")
    now = logp(model, row)
    model.zero_grad()
    (GradientAscent().loss(model, None, encoder.batch([row]))["forget"] * len(row.answer)).backward()
    ascent = model.lm_head.weight.grad.clone()
    torch.testing.assert_close(slope(now), ascent, rtol=1e-3, atol=1e-5)
    faded = 2 / (1 + math.exp(0.1 * 30))  # thirty nats below the reference
    torch.testing.assert_close(slope(now + 30), faded * ascent, rtol=1e-3, atol=1e-5)


def test_a_preferred_answer_that_is_the_answer_changes_nothing(model, encoder):
    row = replace(encoder.pair(QUESTION, BASELINE, "forget"), reference=-170.0, pair="a")
    loss = DirectPreference().loss(model, None, encoder.batch([row, replace(row, role="preferred")]))["forget"]
    loss.backward()
    assert loss.item() == pytest.approx(20 * math.log(2))
    assert model.lm_head.weight.grad.abs().max() < 1e-4


@pytest.mark.parametrize(
    "method", [NegativePreference(), SimpleNegativePreference(), DirectPreference(), AlternatePreference()], ids=lambda m: type(m).__name__
)
def test_one_forward_pass_a_batch(model, encoder, method):
    method.loss(model, None, encoder.batch(rows_of(encoder)))  # finds out about the head, once for a model
    passes = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    method.loss(model, None, encoder.batch(rows_of(encoder)))
    assert (len(passes), method.needs_reference, method.needs_answers) == (1, False, True)


# -- what it moves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer", "better"),
    [
        (GradientAscent(), -1, 0),
        (GradientDifference(), -1, 0),
        (Idk(), 0, 1),
        (PartialModelCollapse(), 0, 1),
        (NegativePreference(), -1, 0),
        (SimpleNegativePreference(margin=8.0, retain_weight=1.0), -1, 0),  # γ: a random model is at 5.6 already
        (DirectPreference(), -1, 1),
        (AlternatePreference(), -1, 1),
        (RetainOnly(), 0, 0),
    ],
    ids=lambda m: type(m).__name__ if not isinstance(m, int) else "",
)
def test_what_the_loss_moves(encoder, method: Method, answer: int, better: int):
    """Some steps on one question: the answer falls (−1), the refusal rises (+1), and the retain answer does wherever it is trained."""
    model = tiny_model()
    asked = visit(encoder, truth=BASELINE)
    sampler = parrot(model, encoder, REFUSAL)
    state = method.prepare([asked], sampler) if isinstance(method, Prepared) else {}
    kept = encoder.pair("Who?", "Bob.", "retain")
    watched = [encoder.pair(QUESTION, BASELINE), encoder.pair(QUESTION, REFUSAL), kept]
    before = [logp(model, row) for row in watched]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(20):
        targets, state = method.targets([asked], sampler, state)
        optimizer.zero_grad()
        sum(method.loss(model, None, encoder.batch([*targets[0].rows, kept])).values()).backward()
        optimizer.step()
    moved = [logp(model, row) - old for row, old in zip(watched, before, strict=True)]
    if answer:
        assert moved[0] < -5
    if better:
        assert moved[1] > 5
    assert (moved[2] > 1) == (not isinstance(method, GradientAscent))


# -- what is found out before the first step -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [NegativePreference, *PAIRED])
def test_the_reference_is_the_model_as_it_was(encoder, kind):
    """Found once, kept to the last bit in JSON, and the same however far the model has gone since."""
    model = tiny_model()
    asked, sampler = visit(encoder, truth="Rome."), parrot(model, encoder, REFUSAL, "Perhaps Oslo.")
    wanted = {text: logp(model, encoder.pair(QUESTION, text)) for text in ("Rome.", REFUSAL, "Perhaps Oslo.")}
    state = json.loads(json.dumps(kind().prepare([asked], sampler)))
    assert state == kind().prepare([asked], sampler)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    (target,), after = kind().targets([asked], replace(sampler, round=3), state)
    assert after is state
    assert target.text == "Rome."
    assert target.rows[0].answer == encoder.answer("Rome.")
    for row in target.rows:
        assert row.reference == pytest.approx(wanted[encoder.decode(row.answer)], abs=1e-4)


def test_altpo_whose_model_always_refuses_is_dpo(model, encoder):
    sampler = parrot(model, encoder, REFUSAL)
    rows = []
    for method in (AlternatePreference(), DirectPreference()):
        targets, _ = method.targets([visit(encoder)], sampler, method.prepare([visit(encoder)], sampler))
        rows.append(targets[0].rows)
    assert rows[0] == rows[1]
    assert [(row.role, row.pair) for row in rows[0]] == [("forget", "a"), ("preferred", "a")]


def test_alternatives_are_asked_for_with_the_answer_and_drawn_by_name(model, encoder):
    asked = [visit(encoder, truth="Rome."), replace(visit(encoder), example=Example("b", "Is it {answer}?"))]
    method = AlternatePreference(alternatives=3, tries=1)
    draw = method._draw(asked[0], 0, 3, parrot(model, encoder))
    assert encoder.decode(draw.context).startswith(f"Question: {QUESTION}\nAnswer: Rome.\nNow ")
    assert "Is it {answer}?\n" in encoder.decode(method._draw(asked[1], 0, 3, parrot(model, encoder)).context)
    sampler = Sampler(model, encoder, SampleConfig(max_new_tokens=12), seed=5)
    made = method.prepare(asked, sampler)
    assert made == method.prepare(asked, sampler) != method.prepare(asked, replace(sampler, seed=6))
    assert [answer["ids"] for answer in made["b"]["preferred"]] == [
        answer["ids"] for answer in method.prepare(asked[1:], sampler)["b"]["preferred"]
    ]
    assert 1 <= len(made["a"]["preferred"]) <= 3


def test_what_the_operator_named_is_never_preferred(model, encoder):
    asked = replace(visit(encoder), example=Example("a", QUESTION, strings=("Oslo",)))
    sampler = parrot(model, encoder, "In Oslo.", "In Rome.", "")
    state = AlternatePreference().prepare([asked], sampler)
    assert {answer["text"] for answer in state["a"]["preferred"]} == {"In Rome."}
    barred = parrot(model, encoder, "In Oslo.")
    targets, _ = AlternatePreference().targets([asked], barred, AlternatePreference().prepare([asked], barred))
    assert (targets[0].rows, targets[0].source) == ((), "none")


@pytest.mark.parametrize("truth", [None, "In Oslo."])
def test_the_answer_itself_is_no_alternative(model, encoder, truth):
    """Preferred over itself it would give no force at all."""
    asked = visit(encoder, truth=truth)
    sampler = parrot(model, encoder, f"Well: {asked.known.lower()}", "In Rome.", asked.known)
    state = AlternatePreference().prepare([asked], sampler)
    assert {answer["text"] for answer in state["a"]["preferred"]} == {"In Rome."}


def test_an_unfinished_alternative_stands_only_alone(model, encoder):
    class Cut(type(parrot(model, encoder))):
        def candidates(self, draws, source):
            return [
                [replace(c, answer=Answer(c.answer.ids[:-1], c.text, c.draw in self.done)) for c in found]
                for found in super().candidates(draws, source)
            ]

    for done, wanted in (((), {"So", "and"}), ((1,), {"and"})):
        sampler = Cut(model, encoder, SampleConfig())
        object.__setattr__(sampler, "texts", ("So", "and"))
        object.__setattr__(sampler, "done", done)
        state = AlternatePreference(tries=1).prepare([visit(encoder)], sampler)
        assert {answer["text"] for answer in state["a"]["preferred"]} == wanted


def test_dpo_gives_each_question_a_few_of_many_refusals(model, encoder):
    method = DirectPreference(refusals="hundred", refusals_each=3)
    asked = [visit(encoder), replace(visit(encoder), example=Example("b", "And Bob?"))]
    state = method.prepare(asked, parrot(model, encoder))
    given = {key: {answer["text"] for answer in entry["preferred"]} for key, entry in state.items()}
    assert [len(texts) for texts in given.values()] == [3, 3]
    assert given["a"] != given["b"]
    assert given["a"] | given["b"] <= set(HUNDRED)
    drawn = {method.targets(asked, replace(parrot(model, encoder), round=n), state)[0][0].rows[1].answer for n in range(30)}
    assert len(drawn) == 3


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_the_hundred_are_a_hundred_refusals_to_the_audit():
    assert len(set(HUNDRED)) == 100
    assert [text for text in HUNDRED if not is_refusal(text)] == []


def test_refusals_may_come_from_a_file(model, encoder, tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text("I cannot say.\n\nNo idea.\n")
    assert list(refusal_texts("idk", str(path), ())) == ["I cannot say.", "No idea."]
    sampler = parrot(model, encoder)
    said = {Idk(refusals=str(path)).targets([visit(encoder)], replace(sampler, round=n), {})[0][0].text for n in range(20)}
    assert said == {"I cannot say.", "No idea."}
    assert {Idk(refusals="hundred").targets([visit(encoder)], sampler, {})[0][0].text} <= set(HUNDRED)


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (Idk, {"refusals": "no/such/file"}, r"idk\.refusals .* is no file"),
        (DirectPreference, {"refusals": "no/such/file"}, r"dpo\.refusals .* is no file"),
        (Idk, {"answers": ()}, r"idk\.answers holds no refusal"),
        (DirectPreference, {"refusals_each": 0}, r"dpo\.refusals_each"),
        (NegativePreference, {"beta": 0.0}, r"npo\.beta"),
        (SimpleNegativePreference, {"beta": -1.0}, r"simnpo\.beta"),
        (AlternatePreference, {"alternatives": 0}, r"altpo\.alternatives"),
        (AlternatePreference, {"request": "Say something."}, r"\{question\}"),
    ],
)
def test_knobs_that_cannot_be_used_are_named(kind, knobs, message):
    with pytest.raises(ConfigError, match=message):
        kind(**knobs)
