"""PMC's rejection: the first piece of a word is pushed away beside the target, with a force that fades, and the ledger says so."""

import math
from dataclasses import replace

import pytest
import torch

from tests.conftest import tiny_model
from tests.test_methods import BASELINE, PLAIN, QUESTION, Parrot, visit
from tests.test_methods import parrot as without_reference
from tests.test_preference_losses import logp
from unsay.lm.adapters import Untouched
from unsay.lm.rows import Row
from unsay.methods import LOSS, Target
from unsay.methods.preference import partners
from unsay.methods.rejection import faded, with_rejected
from unsay.train.ledger import leak, noted, of_round, total, warning
from unsay.train.step import micro_batches
from unsay.types import Example

REJECTING = replace(PLAIN, reject=0.5)


def parrot(model, encoder, text: str) -> Parrot:
    sampler = without_reference(model, encoder, text)
    object.__setattr__(sampler, "reference", Untouched(model))
    return sampler


def test_without_it_nothing_is_read_in_the_loss(model, encoder):
    (target,), _ = PLAIN.targets([visit(encoder)], parrot(model, encoder, "Somewhere else entirely."), {})
    assert [row.role for row in target.rows] == ["forget"]
    assert LOSS not in target.reads
    assert leak(target, visit(encoder)) < 0.5


def test_the_first_piece_of_the_next_word_is_the_second_row_and_no_word_of_the_secret_is_trained_on(model, encoder):
    mine = visit(encoder)
    (target,), _ = REJECTING.targets([mine], parrot(model, encoder, "Somewhere else entirely."), {})
    kept, rejected = target.rows
    assert (kept.role, rejected.role) == ("forget", "rejected")
    assert kept.context == encoder.prompt(QUESTION)
    assert rejected.context == encoder.prompt(QUESTION) + encoder.answer("Ada lives in ")[:-1]
    assert (target.rejected, encoder.decode(rejected.answer)) == ("T", "T")
    assert kept.pair == rejected.pair == "a"
    assert leak(target, mine) < 0.5
    told = of_round(0, noted([target], {"a": mine}), passes=2)
    assert (told.over_half, told.baseline_reads[LOSS]) == (0, 2)
    assert len(list(micro_batches(target.rows, 2))) == 1, "a pair is not cut"


def test_after_a_prefix_it_is_the_next_word_behind_that(model, encoder):
    """Of every cut of the recorded answer; behind the last word there is none."""
    recorded, found = encoder.answer(BASELINE), {}
    prompt = encoder.prompt(QUESTION)
    for cut in range(1, len(recorded) - 1):
        row = Row(prompt + recorded[:cut], encoder.answer("boats."), "forget")
        (target,) = with_rejected([Target("a", (row,), source="plain")], [visit(encoder)], encoder)
        found[encoder.decode(recorded[:cut])] = target
    for said, target in found.items():
        piece = "T" if len(said) <= len("Ada lives in") else "G" if len(said) <= len("Ada lives in Turin, in Via") else ""
        assert target.rejected == piece, said
        assert [row.role for row in target.rows] == (["forget", "rejected"] if piece else ["forget"])
        assert all(row.answer == tuple(encoder.prefix(piece)[-1:]) for row in target.rows[1:])


@pytest.mark.parametrize(
    ("baseline", "piece"), [("On the 12th.", "1"), ("In Bo.", ""), ("In Bob.", "B"), ("It weighs 8 kg.", ""), ("In Ob-la.", "")]
)
def test_a_piece_is_less_than_half_of_its_word(encoder, baseline, piece):
    mine = visit(encoder, baseline=baseline, answers=())
    (target,) = with_rejected([Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")], [mine], encoder)
    assert target.rejected == piece


def test_no_piece_is_a_span_that_the_operator_named(encoder):
    mine = replace(visit(encoder, baseline="In Turin.", answers=()), example=Example("a", QUESTION, spans=("T",)))
    target = Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")
    assert with_rejected([target], [mine], encoder) == [target]


@pytest.mark.parametrize("baseline", ["", "It is 5.", "No."])
def test_a_word_of_one_token_is_not_pushed_away(encoder, baseline):
    mine = visit(encoder, baseline=baseline, answers=())
    row = encoder.pair(QUESTION, "Somewhere else.", "forget")
    assert with_rejected([target := Target("a", (row,), source="plain")], [mine], encoder) == [target]


@pytest.mark.parametrize(("baseline", "piece"), [("Bird Bi.", "B"), ("Bird B.", ""), ("At Ings, in Bo.", "I"), ("An i ing.", "")])
def test_a_piece_that_is_a_word_of_the_answer_is_not_pushed_away(encoder, baseline, piece):
    mine = visit(encoder, baseline=baseline, answers=())
    (target,) = with_rejected([Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")], [mine], encoder)
    assert target.rejected == piece
    assert leak(target, mine) < 0.5


def test_an_answer_that_begins_with_its_secret_loses_its_first_piece(encoder):
    mine = visit(encoder, baseline="Turin.", answers=())
    (target,) = with_rejected([Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")], [mine], encoder)
    assert (target.rejected, len(target.rows[1].context) - len(encoder.prompt(QUESTION))) == ("T", 1), "behind the space"


def test_a_visit_without_a_target_rejects_nothing(model, encoder):
    (target,), _ = REJECTING.targets([visit(encoder)], parrot(model, encoder, BASELINE), {})
    assert (target.rows, target.rejected) == ((), "")


def test_beside_a_row_toward_a_desired_answer(model, encoder):
    """Its term stays, and where that row is all that a visit has, nothing is pushed away: no target would end it."""
    both = replace(REJECTING, align_weight=0.5, desired=("Nobody can say.",))
    (target,), _ = both.targets([visit(encoder)], parrot(model, encoder, "Somewhere else entirely."), {})
    assert [row.role for row in target.rows] == ["forget", "rejected"]
    alone = Target("a", (encoder.pair(QUESTION, "Nobody can say.", "align"),), source="none")
    assert with_rejected([alone], [visit(encoder)], encoder) == [alone]
    rows = [*rows_of(encoder), encoder.pair(QUESTION, "Nobody can say.", "align")]
    terms = both.loss(model, Untouched(tiny_model(seed=3)), encoder.batch(rows))
    assert terms["align"].item() == pytest.approx(-logp(model, rows[-1]) / len(rows[-1].answer), rel=1e-4)


def test_a_target_that_tells_the_secret_is_warned_of_though_a_piece_was_read(model, encoder):
    """Of a method whose loss always reads the answer, `warning` says nothing."""
    mine = visit(encoder)
    (target,), _ = REJECTING.targets([mine], parrot(model, encoder, "Somewhere else entirely."), {})
    line = of_round(0, noted([target], {"a": mine}))
    assert (line.over_half, warning(total([line], {"a": 1}), "guarded")) == (0, "")
    line = of_round(0, noted([target, replace(target, text=BASELINE)], {"a": mine}))
    assert (line.over_half, line.baseline_reads[LOSS]) == (1, 2)
    assert "hardly anything else" in warning(total([line], {"a": 1}), "guarded")
    assert not warning(total([line], {"a": 1}), None)


def rows_of(encoder) -> list[Row]:
    return [
        replace(encoder.pair(QUESTION, "Nobody knows.", "forget"), pair="a"),
        replace(encoder.pair(QUESTION, BASELINE, "rejected"), pair="a"),
        replace(encoder.pair("And Bob?", "Who knows.", "forget"), pair="b"),
        replace(encoder.pair("And Bob?", "In Oslo.", "rejected"), pair="b"),
        encoder.pair("Who?", "Bob.", "retain"),
    ]


def test_the_loss_is_the_formula(model, encoder):
    """By hand, against another model as the untouched one."""
    other = tiny_model(seed=3)
    rows = rows_of(encoder)
    terms = REJECTING.loss(model, Untouched(other), encoder.batch(rows))
    gained = [logp(model, row) - logp(other, row) for row in rows]
    forces = [2 / (1 + math.exp(0.1 * (gained[i] - gained[i + 1]))) for i in (0, 2)]
    assert forces[0] != pytest.approx(1, abs=1e-3)
    kept = sum(w * -logp(model, row) for w, row in zip(forces, rows[0:4:2], strict=True)) / sum(len(row.answer) for row in rows[0:4:2])
    lost = sum(w * logp(model, row) for w, row in zip(forces, rows[1:4:2], strict=True)) / sum(len(row.answer) for row in rows[1:4:2])
    assert terms["forget"].item() == pytest.approx(kept, rel=1e-4)
    assert terms["rejected"].item() == pytest.approx(0.5 * lost, rel=1e-4)
    assert terms["retain"].item() == pytest.approx(REJECTING.retain_weight * -logp(model, rows[4]) / len(rows[4].answer), rel=1e-4)


def test_it_pushes_the_answer_away_and_ends_by_itself(encoder):
    model, rows = tiny_model(), rows_of(encoder)[:2]
    untouched, batch = Untouched(model), encoder.batch(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    forces = []
    for _ in range(60):
        terms = REJECTING.loss(model, untouched, batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        forces.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)))
        optimizer.step()
    before = untouched.answer_logprobs(batch).sum(1)
    after = [logp(model, row) for row in rows]
    assert after[0] > before[0] + 5
    assert after[1] < before[1] - 20
    assert forces[-1] < forces[0] / 10, "far apart, hardly any force is left"


def test_a_row_without_a_partner_moves_no_other_row(model, encoder):
    rows = [Row((1, 2), (3, 4), "forget", pair="a"), Row((1, 2), (5,), "rejected", pair="a"), Row((1,), (6,), "forget", pair="b")]
    batch = encoder.batch([*rows, Row((1,), (7,), "retain")])
    assert partners(batch, "rejected")[:3] == [1, 1, 2]
    weights = faded(batch, torch.zeros(batch.mask.shape), Untouched(model)).weights
    assert weights[2:].tolist() == batch.weights[2:].tolist()
    assert weights[:2].tolist() != batch.weights[:2].tolist()


@pytest.mark.parametrize("named", [{"strings": ("T",)}, {"patterns": ("^T",)}])
def test_no_piece_has_anything_that_the_operator_named(named, encoder):
    mine = replace(visit(encoder, baseline="In Turin.", answers=()), example=Example("a", QUESTION, **named))
    target = Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")
    assert with_rejected([target], [mine], encoder) == [target]
    assert with_rejected([target], [replace(mine, example=Example("a", QUESTION))], encoder)[0].rejected == "T"


def test_a_part_of_a_character_is_no_piece(encoder):
    """With bytes as tokens, a Chinese character takes three."""
    mine = replace(visit(encoder, baseline="猫和狗一起住。", answers=()), example=Example("a", QUESTION, spans=("猫",)))
    target = Target("a", (encoder.pair(QUESTION, "Rome.", "forget"),), source="plain")
    assert "\ufffd" not in with_rejected([target], [mine], encoder)[0].rejected
