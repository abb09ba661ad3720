"""Templates, alignment and the one place that knows padding."""

import pytest
import torch

from tests.conftest import byte_tokenizer
from unsay.config import ConfigError
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs
from unsay.lm.rows import Row

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT


def test_plain_template(encoder):
    assert encoder.tokenizer.decode(encoder.prompt("Who?")) == "<bos>Question: Who?\nAnswer:"
    assert encoder.tokenizer.decode(encoder.answer("Ada.")) == " Ada.<eos>"
    assert encoder.decode(encoder.answer("Ada.")) == "Ada."
    assert encoder.prompt(None) == (1,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "<bos>Question: Where is"),
        ({"template": "raw"}, "<bos>Where is"),
        ({"template": "chat", "system_prompt": "Be kind, Lima."}, "<system>Be kind, Lima.<eos>\n<user>Where is"),
    ],
)
def test_a_prompt_up_to_a_part_of_its_question(options: dict[str, str], text: str):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT if options.get("template") == "chat" else None
    assert tokenizer.decode(Encoder(tokenizer, **options).until("Where is ")) == text


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


DATED = "{% if date_string is not defined %}{{ raise_exception('date_string is missing') }}{% endif %}{{ date_string }} " + CHAT
THINKING = CHAT.replace("<assistant>{% endif %}", "<assistant>{% if not enable_thinking %}<think></think>{% endif %}{% endif %}")


def test_a_template_gets_its_variables():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = DATED
    encoder = Encoder(tokenizer, template_options={"date_string": "10 Apr 2025"})
    assert tokenizer.decode(encoder.prompt("Who?")) == "10 Apr 2025 <user>Who?<eos>\n<assistant>"
    with pytest.raises(ConfigError, match=r"date_string is missing; give it the variables it needs in model\.template_options"):
        Encoder(tokenizer)
    with pytest.raises(ConfigError, match="template_options names tokenize, which is not a variable of the template"):
        Encoder(tokenizer, template_options={"date_string": "", "tokenize": True})


@pytest.mark.parametrize(("options", "tail"), [({"enable_thinking": True}, ""), ({"enable_thinking": False}, "<think></think>")])
def test_thinking_is_a_variable_like_any_other(options: dict[str, bool], tail: str):
    """Switched off, the empty thought belongs to the prompt: it is never trained on."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKING
    encoder = Encoder(tokenizer, template_options=options)
    assert tokenizer.decode(encoder.prompt("Who?")).endswith(f"<assistant>{tail}")
    assert tokenizer.decode(encoder.answer("Ada.")) == "Ada.<eos>"


def test_a_template_that_cannot_be_filled_is_an_error_with_its_way_out():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[5].content }}{{ raise_exception('odd') }}"
    for system in ("", "Be kind."):
        with pytest.raises(ConfigError, match="template=plain"):
            Encoder(tokenizer, system_prompt=system)


def test_chat_asked_for_and_not_there():
    with pytest.raises(ConfigError, match="template=plain"):
        Encoder(byte_tokenizer(), template="chat")


def test_rows_begin_at_the_left_and_a_batch_is_as_wide_as_its_longest(encoder):
    batch = encoder.batch([Row((5, 6, 7), (8, 2)), Row((5,), (9, 9, 2), "retain"), Row((5, 6), (4, 4, 4, 2), "retain")])
    assert batch.ids.tolist() == [[5, 6, 7, 8, 2, 0], [5, 9, 9, 2, 0, 0], [5, 6, 4, 4, 4, 2]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1] * 6]
    assert batch.starts.tolist() == [3, 1, 2]
    assert batch.mask.tolist() == [[True, True, False, False], [True, True, True, False], [True] * 4]
    assert batch.answers().tolist() == [8, 2, 9, 9, 2, 4, 4, 4, 2]
    last = torch.zeros_like(batch.mask)
    last[0, 1] = last[1, 2] = True
    assert [some.tolist() for some in batch.places(last)] == [[0, 1], [4, 3]]
    assert batch.answers(last).tolist() == [2, 2]
    assert batch.tokens == {"forget": 2, "retain": 7}


def test_prompts_end_together(encoder):
    ids, attention = encoder.prompts([(5, 6, 7), (5,)])
    assert ids.tolist() == [[5, 6, 7], [0, 0, 5]]
    assert attention.tolist() == [[1, 1, 1], [0, 0, 1]]


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


def test_a_line_end_can_end_an_answer():
    """A base model goes on with the next question; its line end is then the end of the answer, in sampling and in training."""
    tokenizer = byte_tokenizer()
    (line_end,) = tokenizer.encode("\n", add_special_tokens=False)
    encoder = Encoder(tokenizer, stop="\n")
    assert encoder.end == line_end
    assert encoder.answer("Rome")[-1] == line_end
    assert encoder.stops == {line_end, tokenizer.eos_token_id}
    with pytest.raises(ConfigError, match=r"model\.stop is no single token"):
        Encoder(tokenizer, stop="the end")
