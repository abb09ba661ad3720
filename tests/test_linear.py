"""The quick matrix product: equal to torch's own up to rounding, whatever it is used for; and where it is not used."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from unsay.lm import linear
from unsay.lm.logprobs import head_logprobs


@pytest.fixture(params=[False, True], ids=["torch", "onednn"])
def library(request, monkeypatch):
    """Both libraries, whatever the processor prefers."""
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(linear, "pays", lambda: request.param)
    return request.param


def layers(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(i, o) for i, o in pairwise(widths)))


@pytest.mark.parametrize("shape", [(7, 128), (2, 3, 128), (128,), (0, 128)])
def test_values_and_gradients_are_those_of_float64(library, shape):
    model, exact = layers(128, 192, 128), layers(128, 192, 128).double()
    linear.quicken(model)
    assert (type(model[0]) is linear.QuickLinear) == library
    x = torch.randn(shape)
    outputs = {}
    for name, one, inputs in (("found", model, x.clone()), ("exact", exact, x.double())):
        inputs.requires_grad_()
        out = one(inputs)
        out.square().sum().backward()
        outputs[name] = [out, inputs.grad, *(p.grad for p in one.parameters())]
    for found, wanted in zip(outputs["found"], outputs["exact"], strict=True):
        assert found.shape == wanted.shape
        assert torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_a_column_slice_and_a_transposed_input(library):
    weight, x = torch.randn(192, 256)[:, ::2], torch.randn(128, 40).T
    assert torch.allclose(linear.linear(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4)


def test_frozen_weights_get_no_gradient(library):
    model = layers(128, 192)
    linear.quicken(model)
    model[0].weight.requires_grad_(False)
    model(torch.randn(3, 128)).sum().backward()
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


def test_a_quickened_model_copies_saves_and_turns_back(library):
    model = layers(128, 192)
    linear.quicken(model)
    twin = copy.deepcopy(model)
    assert list(twin.state_dict()) == ["0.weight", "0.bias"]
    x = torch.randn(3, 128)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert not torch.equal(model(x), twin(x))  # the copy multiplies with its own weights
    with linear.stock(model):
        assert type(model[0]) is nn.Linear
    assert (type(model[0]) is linear.QuickLinear) == library


def test_half_precision_and_small_layers_are_left_to_torch(library, monkeypatch):
    def fail(*args: object) -> None:
        raise AssertionError("not to be called")

    model = layers(8, 8)
    linear.quicken(model)
    assert type(model[0]) is nn.Linear
    monkeypatch.setattr(linear, "_multiply", fail)
    half = torch.randn(3, 128, dtype=torch.bfloat16)
    assert linear.linear(half, torch.randn(64, 128, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_compiled_model_is_left_to_the_compiler(library, monkeypatch):
    def fail(*args: object) -> None:
        raise AssertionError("not to be called")

    model = layers(128, 192)
    linear.quicken(model)
    monkeypatch.setattr(linear, "_multiply", fail)
    x = torch.randn(3, 128)
    found = torch.compile(model, backend="eager")(x)
    assert torch.allclose(found, nn.functional.linear(x, model[0].weight, model[0].bias), atol=1e-5)


def test_an_operator_that_is_gone_or_wrong_is_not_used(monkeypatch):
    def gone(*args: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(linear, "_maker", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for replacement in (gone, lambda input, weight, bias=None: 1.01 * nn.functional.linear(input, weight, bias)):
        linear.pays.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(linear, "_multiply", replacement)
            assert not linear.pays()
    linear.pays.cache_clear()


def test_a_head_may_stand_still(library):
    """The gradient through a fixed head is made in the forward pass, by the same product."""
    torch.manual_seed(0)
    hidden, weight, ids = torch.randn(5, 128), torch.randn(300, 128), torch.tensor([0, 7, 299, 7, 3])
    found, exact = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    head_logprobs(found, weight, ids).sum().backward()
    (exact @ weight.double().T).log_softmax(1)[torch.arange(5), ids].sum().backward()
    assert torch.allclose(found.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)
