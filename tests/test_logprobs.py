"""Chunked log-probabilities equal the plain formula, in value and gradient."""

from functools import partial

import pytest
import torch

from unsay.lm import logprobs
from unsay.lm.logprobs import head_divergences, head_logprobs, mean_by_row, sum_by_row, token_divergences, token_logprobs


def test_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 1.0986123]]])
    found = token_logprobs(logits, torch.tensor([[0, 1]]))
    assert torch.allclose(found, torch.log(torch.tensor([[0.5, 0.75]]))), "1 of 2, then 3 of 1 + 3"


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_chunks_change_nothing(chunk: int) -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 7, 11, dtype=torch.float64, requires_grad=True), torch.randint(0, 11, (2, 7))
    weights = torch.randn(2, 7)
    found = token_logprobs(logits, ids, chunk=chunk)
    plain = torch.log_softmax(logits, -1).gather(-1, ids[..., None])[..., 0]
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), plain, atol=1e-6)
    gradients = [torch.autograd.grad((values * weights).sum(), logits)[0] for values in (found, plain)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.zeros(1, 1, 50_000, dtype=torch.bfloat16)
    assert token_logprobs(logits, torch.zeros(1, 1, dtype=torch.long)).item() == pytest.approx(-10.819778, abs=1e-5), "−ln 50000"


def test_leading_dimensions_and_no_tokens() -> None:
    assert token_logprobs(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, dtype=torch.long), chunk=3).shape == (2, 3, 4)
    assert token_logprobs(torch.zeros(4, 5), torch.zeros(4, dtype=torch.long)).shape == (4,)
    assert token_logprobs(torch.zeros(2, 0, 5), torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="do not match"):
        token_logprobs(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.long))


def test_rows() -> None:
    values = torch.tensor([[1.0, 2.0, float("nan")], [4.0, 6.0, 8.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    assert sum_by_row(values, mask).tolist() == [3.0, 14.0, 0.0], "what is masked is not looked at"
    assert mean_by_row(values, mask)[:2].tolist() == [1.5, 7.0]
    assert mean_by_row(values, mask)[2].isnan(), "a row without tokens has no mean"


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_in_pieces_equals_the_plain_formula(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 22)
    torch.manual_seed(0)
    hidden, weight, ids = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5, requires_grad=not frozen), torch.randint(0, 11, (7,))
    above = torch.randn(7)
    plain = torch.log_softmax(hidden @ weight.T, -1).gather(1, ids[:, None])[:, 0]
    found = head_logprobs(hidden, weight, ids)
    assert torch.allclose(found, plain, atol=1e-6)
    wanted = [hidden] if frozen else [hidden, weight]
    for one, other in zip(
        torch.autograd.grad((found * above).sum(), wanted), torch.autograd.grad((plain * above).sum(), wanted), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_divergences_by_hand() -> None:
    even, odd = torch.zeros(1, 2), torch.tensor([[0.0, 1.0986123]])
    # (1/4, 3/4) taught, (1/2, 1/2) found: ¼ ln ½ + ¾ ln 3/2. The other way round: ½ ln 2 + ½ ln ⅔.
    assert token_divergences(even, odd, [1.0]).item() == pytest.approx(0.1308120, abs=1e-6)
    assert token_divergences(odd, even, [1.0]).item() == pytest.approx(0.1438410, abs=1e-6)
    with pytest.raises(ValueError, match="do not match"):
        token_divergences(even, torch.zeros(2, 2), [1.0])


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, 3.0)])
@pytest.mark.parametrize("trained", [("hidden",), ("hidden", "weight"), ("weight",)])
def test_divergences_in_pieces_are_torchs(
    trained: tuple[str, ...], temperatures: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 3 * 11)
    torch.manual_seed(0)
    made = {"hidden": torch.randn(7, 5), "weight": torch.randn(11, 5), "taught": torch.randn(7, 5), "taught_weight": torch.randn(11, 5)}
    weights = torch.randn(7)
    found = []
    for kind in ("head", "tokens", "torch"):
        h, w, t, v = (tensor.clone().requires_grad_(name in trained) for name, tensor in made.items())
        if kind == "head":
            values = head_divergences(h, w, t, v, temperatures)
        elif kind == "tokens":
            values = token_divergences(h @ w.T, t @ v.T, temperatures, chunk=3)
        else:
            kl = partial(torch.nn.functional.kl_div, log_target=True, reduction="none")
            found_at = [kl((h @ w.T / c).log_softmax(-1), (t @ v.T / c).log_softmax(-1)).sum(-1) for c in temperatures]
            values = sum(c**2 * one for c, one in zip(temperatures, found_at, strict=True))
        (values * weights).sum().backward()
        found.append([values.detach(), *(x.grad for x in (h, w) if x.grad is not None)])
    for some in found[:2]:
        assert len(some) == 1 + len(trained)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(some, found[2], strict=True))
