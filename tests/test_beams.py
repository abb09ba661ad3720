"""Beam search: the answers are those of plain transformers, and the worst of them counts."""

import torch

from tests.conftest import tiny_model
from tests.test_prompt_variants import CASE, HOME, Fake
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject
from unsay.probes.beams import Beams, searched


def test_the_answers_are_the_likeliest_sequences(encoder: Encoder) -> None:
    model, contexts = tiny_model(), [encoder.prompt(HOME.question), encoder.prompt("Who?")]
    together = list(searched(model, encoder, contexts, limit=2))
    alone = [answers for context in contexts for answers in searched(model, encoder, [context], limit=2)]
    assert together == alone
    assert [len(answers) for answers in together] == [4, 4]
    with torch.no_grad():  # two tokens: the likeliest first token need not begin the likeliest pair, but a pair of the four does
        first = model(torch.tensor([contexts[0]])).logits[0, -1].log_softmax(-1)
        starts = {encoder.decode([token]) for token in first.topk(4).indices.tolist()}
    assert any(text.startswith(tuple(starts)) for text in together[0])


def test_a_model_of_weights_is_scored_and_one_without_is_not(encoder: Encoder) -> None:
    (found,) = Beams()(LocalSubject(tiny_model(), encoder, SampleConfig(max_new_tokens=4)), CASE)
    assert (found.value, found.setting, found.n) == (0.0, "4 beams", 4)
    (found,) = Beams()(Fake(), CASE)
    assert (found.value, found.note) == (None, "this model shows no weights")
