"""Templates, alignment and the one place that knows padding."""

import pytest
import torch

from tests.conftest import byte_tokenizer
from unsay.encode import Encoder, Row
from unsay.model import answer_logprobs

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT


def test_plain_template(encoder):
    assert encoder.tokenizer.decode(encoder.prompt("Who?")) == "<bos>Question: Who?\nAnswer:"
    assert encoder.tokenizer.decode(encoder.answer("Ada.")) == " Ada.<eos>"
    assert encoder.decode(encoder.answer("Ada.")) == "Ada."
    assert encoder.prompt(None) == (1,)


def test_chat_template_and_its_end():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    encoder = Encoder(tokenizer, system_prompt="Be kind.")
    assert tokenizer.decode(encoder.prompt("Who?")) == "<system>Be kind.<eos>\n<user>Who?<eos>\n<assistant>"
    assert encoder.end == tokenizer.eos_token_id
    assert tokenizer.decode(encoder.answer("Ada.")) == "Ada.<eos>"


def test_a_template_that_rejects_a_system_message_gets_it_in_the_question():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = STRICT
    encoder = Encoder(tokenizer, system_prompt="Be kind.")
    assert tokenizer.decode(encoder.prompt("Who?")) == "<user>Be kind.\n\nWho?<eos>\n<assistant>"


def test_chat_asked_for_and_not_there():
    with pytest.raises(ValueError, match="template=plain"):
        Encoder(byte_tokenizer(), template="chat")


def test_rows_meet_at_the_boundary_of_prompt_and_answer(encoder):
    batch = encoder.batch([Row((5, 6, 7), (8, 2)), Row((5,), (9, 9, 9, 2), "retain")])
    assert batch.ids.tolist() == [[5, 6, 7, 8, 2, 0, 0], [0, 0, 5, 9, 9, 9, 2]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]]
    assert batch.answers.tolist() == [[8, 2, 0, 0], [9, 9, 9, 2]]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.tokens == {"forget": 2, "retain": 4}


def test_means_are_over_the_tokens_of_a_role_in_the_whole_step(encoder):
    rows = [Row((5,), (8, 2)), Row((5,), (9, 9, 2)), Row((5,), (7, 2), "retain")]
    values = torch.tensor([[1.0, 2.0, 50.0], [3.0, 4.0, 5.0], [6.0, 7.0, 50.0]])
    whole = encoder.batch(rows)
    assert whole.mean(values, "forget").item() == pytest.approx(15 / 5)
    assert whole.mean(values, "retain").item() == pytest.approx(13 / 2)
    assert whole.mean(values, "align").item() == 0
    parts = [encoder.batch(part, of=rows) for part in (rows[:1], rows[1:])]
    assert (parts[0].mean(values[:1, :2], "forget") + parts[1].mean(values[1:], "forget")).item() == pytest.approx(3.0)


def test_logprobs_do_not_depend_on_padding(model, encoder):
    rows = [encoder.pair("Who?", "Ada Lovelace."), encoder.pair("Where does she live now?", "There.")]
    together = answer_logprobs(model, encoder.batch(rows))
    for i, row in enumerate(rows):
        alone = answer_logprobs(model, encoder.batch([row]))[0]
        assert together[i, : len(row.answer)].tolist() == pytest.approx(alone.tolist(), abs=1e-5)
        ids = torch.tensor([row.context + row.answer])
        direct = model(ids).logits.log_softmax(-1)[0, len(row.context) - 1 : -1].gather(1, ids[0, len(row.context) :, None])
        assert alone.tolist() == pytest.approx(direct.squeeze(1).tolist(), abs=1e-5)
