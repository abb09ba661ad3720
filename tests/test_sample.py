"""The sampler: same greedy answers as `generate`, the right frequencies, random numbers that know no batch."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.sample import Draw, nucleus, row_keys, sample, uniforms

CONFIG = SampleConfig(max_new_tokens=12, rows=64)
QUESTIONS = ["Who?", "Where does she live now?", "When was that?"]


def contexts(encoder: Encoder) -> list[tuple[int, ...]]:
    return [encoder.prompt(question) for question in QUESTIONS]


def test_greedy_equals_generate(model, encoder):
    draws = [Draw(str(i), context) for i, context in enumerate(contexts(encoder))]
    ours = [answers[0].ids for answers in sample(model, encoder, draws, CONFIG)]
    for context, ids in zip(contexts(encoder), ours, strict=True):
        expected = model.generate(torch.tensor([context]), max_new_tokens=12, do_sample=False)[0, len(context) :].tolist()
        assert list(ids) == expected


def test_an_answer_does_not_depend_on_its_batch(model, encoder):
    draws = [Draw(str(i), context, n=5, temperature=1.0) for i, context in enumerate(contexts(encoder))]
    together = sample(model, encoder, draws, CONFIG, seed=3)
    alone = [sample(model, encoder, [draw], CONFIG, seed=3)[0] for draw in reversed(draws)][::-1]
    small = sample(model, encoder, draws, SampleConfig(max_new_tokens=12, rows=5), seed=3)
    assert together == alone == small
    assert together != sample(model, encoder, draws, CONFIG, seed=4)


def test_a_limit_cuts_one_draw_and_not_another(model, encoder):
    first, second = contexts(encoder)[:2]
    short, long = sample(model, encoder, [Draw("a", first, limit=3), Draw("b", second)], CONFIG)
    assert len(short[0].ids) == 3
    assert not short[0].finished
    assert long == sample(model, encoder, [Draw("b", second)], CONFIG)[0]


def test_finished_answers_keep_their_end_and_lose_it_in_the_text(model, encoder):
    with torch.no_grad():  # an output layer that always prefers end-of-sequence
        model.lm_head.weight.zero_()
        model.lm_head.weight[encoder.end] = 1.0
        model.model.norm.weight.fill_(1.0)
    answer = sample(model, encoder, [Draw("a", encoder.prompt("Who?"), n=1, temperature=0.0)], CONFIG)[0][0]
    assert answer.finished == (answer.ids[-1] == encoder.end)


def test_not_finite_logits_are_an_error(model, encoder):
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        sample(model, encoder, [Draw("a", encoder.prompt("Who?"))], CONFIG)


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("window", [3, 50])
def test_frequencies_are_those_of_the_nucleus(top_p: float, window: int):
    torch.manual_seed(0)
    logits = torch.randn(1, 50) * 0.8
    probs = (logits / 0.8).softmax(1)[0]
    order = probs.argsort(descending=True)
    inside = order[: int((probs[order].cumsum(0) < top_p).sum()) + 1]  # the smallest set whose mass reaches top_p
    n = 20_000
    uniform = torch.from_numpy(uniforms(row_keys([Draw("x", (), n)], 0, ""), 0))[:, None]
    column = torch.ones(n, 1)
    drawn = nucleus(logits.expand(n, -1), 0.8 * column, top_p * column, uniform, window)
    counts = torch.bincount(drawn, minlength=50)
    assert counts.sum() == counts[inside].sum()
    expected = probs[inside] / probs[inside].sum() * n
    common = expected >= 5
    observed = torch.cat([counts[inside][common], counts[inside][~common].sum()[None]]).double().numpy()
    wanted = torch.cat([expected[common], expected[~common].sum()[None]]).double().numpy()
    keep = wanted > 0
    assert chisquare(observed[keep], wanted[keep] * observed.sum() / wanted[keep].sum()).pvalue > 1e-3


@pytest.mark.parametrize("wide", [5, 60, 1000])
def test_the_window_changes_nothing(monkeypatch, wide):
    """Neither does the width of the second look, which the nuclei of some rows exceed too."""
    monkeypatch.setattr("unsay.lm.sample._WIDE", wide)
    torch.manual_seed(1)
    logits, uniform = torch.randn(200, 300), torch.rand(200, 1)
    temperature, top_p = torch.full((200, 1), 1.3), torch.rand(200, 1).clamp(0.2) * 0.99
    top_p[:50] = 1.0
    assert torch.equal(nucleus(logits, temperature, top_p, uniform, 4), nucleus(logits, temperature, top_p, uniform, 300))


@pytest.mark.parametrize("window", [4, 300])
def test_a_quantile_beyond_the_rounded_sum_takes_no_impossible_token(window):
    torch.manual_seed(2)
    logits = torch.cat([torch.randn(64, 250), torch.full((64, 50), -torch.inf)], 1)
    top, column = torch.full((64, 1), 1 - 2**-24), torch.ones(64, 1)
    assert (nucleus(logits, column, column, top, window) < 250).all()


@pytest.mark.parametrize("wide", [4, 1000])
def test_equal_logits_are_told_apart(monkeypatch, wide):
    """A token is looked up by its value's rank: where values are equal, each of them has its turn."""
    monkeypatch.setattr("unsay.lm.sample._WIDE", wide)
    logits = torch.tensor([[2.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -torch.inf]]).expand(1000, -1)
    uniform = torch.linspace(0, 1, 1001)[:1000, None]
    column = torch.ones(1000, 1)
    counts = torch.bincount(nucleus(logits, column, column, uniform, 1), minlength=10)
    expected = logits[0].softmax(0) * 1000
    assert (counts - expected).abs().max() < 2


def test_repulsion_keeps_tokens_away(model, encoder):
    context = encoder.prompt("Who?")
    plain = sample(model, encoder, [Draw("a", context, 8, 1.0)], CONFIG)[0]
    used = {token for answer in plain for token in answer.ids if token != encoder.end}
    repelled = sample(model, encoder, [Draw("a", context, 8, 1.0, repelled=tuple(used), repulsion=50.0)], CONFIG)[0]
    assert not used & {token for answer in repelled for token in answer.ids}


def test_uniforms_are_literal_and_uniform():
    # splitmix64 from seed 0 begins 0xe220a8397b1dcdaf (Steele et al. 2014, reference implementation).
    assert uniforms(np.zeros(1, dtype=np.uint64), 0)[0] == np.float32((0xE220A8397B1DCDAF >> 40) * 2.0**-24)
    values = uniforms(row_keys([Draw("x", (), 50_000)], 0, ""), 7)
    assert 0 <= values.min() < values.max() < 1
    assert chisquare(np.histogram(values, bins=20, range=(0, 1))[0]).pvalue > 1e-3
