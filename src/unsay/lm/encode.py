"""Questions and answers as token ids, and rows of ids (rows.py) as padded batches.

The only room that knows templates, padding and special tokens. A batch of rows is padded on the right, which no earlier token
sees: so every model reads it, and it is as wide as its longest row.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unsay.config import ConfigError
from unsay.lm.rows import Batch, Row
from unsay.lm.templates import Turns, plain, raw
from unsay.types import Answer, token_ids

_SENTINEL = "\u2021answer\u2021"
_ASKED, _TOLD = "Unsayquestion", "Unsaysystem"
"""A question and a system message that are looked for in what a template writes: plain letters, which nothing escapes."""
_log = logging.getLogger(__name__)
_warn_once = cache(_log.warning)
"""A run makes one encoder after another."""
_OURS = frozenset({"conversation", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "return_tensors"})
"""Arguments of `apply_chat_template` that say how it is called, not what the template sees."""


class Encoder:
    """Knows one tokenizer: its template, its end of answer, its padding; and how much of it the model can read.

    With the template `raw` a question is the opening of a text and an answer what comes next, so that an answer may be cut where
    the text goes on. Such an answer ends in white space, in a file, a recorded answer or a row, and no end follows it.

    `vocabulary` is the number of rows of the model's embedding and `room` the longest text it reads, in tokens; `None` checks
    neither. Raises `ConfigError` where tokenizer, template and model do not fit.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str = "auto",
        system_prompt: str = "",
        stop_ids: Sequence[int] = (),
        template_options: Mapping[str, Any] | None = None,
        vocabulary: int | None = None,
        room: int | None = None,
        stop: str = "",
    ):
        self.tokenizer = tokenizer
        self.raw = template == "raw"
        self.chat = template == "chat" or (template == "auto" and bool(tokenizer.chat_template))
        if template == "chat" and not tokenizer.chat_template:
            raise ConfigError("model.template = 'chat', but the tokenizer has no chat template; use --set model.template=plain")
        self.system_prompt = system_prompt
        self.template_options = dict(template_options or {})
        if taken := sorted(_OURS & set(self.template_options)):
            raise ConfigError(f"model.template_options names {', '.join(taken)}, which is not a variable of the template; remove it")
        self.room = room
        self._vocabulary = vocabulary
        self._check_vocabulary()
        self._folded = False
        """Whether the system message stands before each question, because the template has no place for one."""
        if self.chat:
            self._check_template()
        end = self._chat_end() if self.chat else None
        if end is None:
            end = tokenizer.eos_token_id
        if end is None:  # a tokenizer without end-of-sequence: an answer ends with its line
            end = self._ids("\n")[-1]
        if stop:
            end = min(self._single(stop), key=lambda i: len(self.tokenizer.decode([i])))
        self.end: int = end
        """The token that ends an answer in training."""
        self.stops = frozenset({self.end, *stop_ids, *self._single(stop)}) | ({tokenizer.eos_token_id} - {None})
        """Tokens at which sampling stops."""
        pad = tokenizer.pad_token_id
        # A padding token that was added to the tokenizer and not to the model is common, and need not be read: any other will do.
        self.pad: int = pad if pad is not None and self._known(pad) else self.end

    def _single(self, stop: str) -> set[int]:
        """The tokens that are the stop text, once or several times over (many vocabularies have one for two line ends)."""
        found = {ids[0] for n in range(1, 17) if len(ids := self._ids(stop * n)) == 1} if stop else set()
        if stop and not found:
            raise ConfigError("model.stop is no single token of this tokenizer; name one that is, such as a line end")
        return found

    def left(self, length: int, name: str = "") -> int:
        """How many tokens the model can still write after a prompt of `length`; raises `ConfigError` where it is none.

        `name` says whose prompt it is: the id of a question, never its text.
        """
        if self.room is None:
            return sys.maxsize
        if length >= self.room:
            # A question in the place of an id may be secret.
            whose = f"the prompt of {name!r}" if name and " " not in name else "a prompt"
            raise ConfigError(
                f"{whose} is {length} tokens long, and this model reads at most {self.room} (prompt and answer together); "
                "shorten the question (or model.system_prompt), or leave it out"
            )
        return self.room - length

    def fits(self, name: str, question: str, answer: str) -> None:
        """Raises `ConfigError`, naming the row by its id, where question and answer are longer than the model reads."""
        length = len(self.prompt(question)) + len(self.answer(answer))
        if self.room is not None and length > self.room:
            raise ConfigError(
                f"row {name!r} is {length} tokens long with its answer, and this model reads at most {self.room}; "
                "shorten it or leave it out"
            )

    def prompt(self, question: str | None, before: Turns = ()) -> tuple[int, ...]:
        """Ids up to where the answer begins. `None` asks nothing: the bare beginning of a text. `before`: the turns ahead of the
        question; a system message among them takes the place of the usual one."""
        if question is None:
            bos = self.tokenizer.bos_token_id
            return (bos if bos is not None else self.end,)
        if self.chat:
            system = next((text for role, text in before if role == "system"), self.system_prompt)
            return self._ids(self._filled(self._turns(system, question, [turn for turn in before if turn[0] != "system"])))
        return self._ids((raw if self.raw else plain)(question, before), special=True)

    def until(self, beginning: str) -> tuple[int, ...]:
        """Ids of the prompt up to where its question, which begins so, goes on: for the model to do that."""
        # A template may change what it is given, and say more behind it: only the mark is sure to be found.
        question = beginning + _ASKED
        text = self._filled(self._turns(self.system_prompt, question)) if self.chat else (raw if self.raw else plain)(question)
        # Trap: the space belongs to the next word's first token.
        return self._ids(text.rpartition(_ASKED)[0].rstrip(), special=not self.chat) or self.prompt(None)

    def prefix(self, text: str) -> tuple[int, ...]:
        """Ids of the beginning of an answer."""
        return self._ids(self._lead(text)) if text else ()

    def answer(self, text: str) -> tuple[int, ...]:
        """Ids of a whole answer, its end included; of one that was cut where its text goes on (`raw`), without an end."""
        return (*self._ids(self._lead(text)), *self._ending(text))

    def within(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[bool, ...]:
        """Of each token of `answer(text)`: whether it holds a character of one of the spans (start, end). The end is in none; of a
        tokenizer that cannot tell, every other token is."""
        lead, end = self._lead(text), (False for _ in self._ending(text))
        if not self.tokenizer.is_fast:
            return (*(True for _ in self._ids(lead)), *end)
        moved = len(lead) - len(text.rstrip() if self.raw else text)
        places = self.tokenizer(lead, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return (*(any(start < last + moved and first + moved < stop for first, last in spans) for start, stop in places), *end)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of answer ids, special tokens left out, white space at both ends too."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def sampled(self, ids: Sequence[int]) -> Answer:
        """Sampled ids, up to the first stop, as an answer. A text that goes on (`raw`) is whole where the length limit cut it."""
        stop = next((i for i, token in enumerate(ids) if token in self.stops), len(ids))
        finished, text = stop < len(ids), self.decode(ids[:stop])
        return Answer(token_ids(ids[: stop + 1]), text if finished or not self.raw else f"{text} ", finished or self.raw)

    def pair(self, question: str | None, answer: str, role: str = "retain") -> Row:
        return Row(self.prompt(question), self.answer(answer), role)

    def batch(self, rows: Sequence[Row], device: torch.device | str = "cpu", of: Sequence[Row] | None = None) -> Batch:
        """Rows as one padded batch. `of` = all rows of the optimizer step, whose counts normalise the loss (default: these)."""
        shape = len(rows), max(row.length for row in rows)
        ids, attention = torch.full(shape, self.pad), torch.zeros(shape, dtype=torch.long)
        mask = torch.zeros((len(rows), max(len(row.answer) for row in rows)), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : row.length] = torch.tensor((*row.context, *row.answer))
            attention[i, : row.length] = 1
            mask[i, : len(row.answer)] = True
        counted = rows if of is None else of
        roles = {row.role for row in counted}
        return Batch(
            ids.to(device),
            attention.to(device),
            torch.tensor([len(row.context) for row in rows]).to(device),
            mask.to(device),
            tuple(row.role for row in rows),
            torch.tensor([row.weight for row in rows]).to(device),
            {role: sum(len(row.answer) for row in counted if row.role == role) for role in roles},
            {role: sum(row.role == role for row in counted) for role in roles},
            torch.tensor([row.reference for row in rows]).to(device),
            tuple(row.pair for row in rows),
        )

    def prompts(self, contexts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Contexts padded on the left: ids and attention, both [B, T]."""
        width = max(map(len, contexts))
        ids = [(self.pad,) * (width - len(context)) + tuple(context) for context in contexts]
        attention = [(0,) * (width - len(context)) + (1,) * len(context) for context in contexts]
        return torch.tensor(ids, device=device), torch.tensor(attention, device=device)

    def _ids(self, text: str, special: bool = False) -> tuple[int, ...]:
        ids = token_ids(self.tokenizer.encode(text, add_special_tokens=special))
        if not all(map(self._known, ids)):
            raise ConfigError(
                f"a text holds a special token of the tokenizer whose id {max(ids)} lies beyond the model's embedding of "
                f"{self._vocabulary} rows; take it out of the text"
            )
        return ids

    def _known(self, token: int) -> bool:
        return self._vocabulary is None or token < self._vocabulary

    def _check_vocabulary(self) -> None:
        """Every ordinary token must have its row. An added one that has none (an image's place holder in a model that only
        reads text) does no harm until a text holds it."""
        if self._vocabulary is None:
            return
        added = set(self.tokenizer.added_tokens_decoder)
        highest = max((i for i in self.tokenizer.get_vocab().values() if i not in added), default=0)
        if not self._known(highest):
            raise ConfigError(
                f"the tokenizer has ids up to {highest}, but the model's embedding has {self._vocabulary} rows: they do not belong "
                "together. Put the model's own tokenizer files into its folder"
            )

    def _lead(self, text: str) -> str:
        # Trap: after "Answer:" the space belongs to the answer's first token; a chat turn begins without one.
        if self.raw:
            return text.rstrip() if text[:1].isspace() else f" {text.rstrip()}"
        return text if self.chat else f" {text}"

    def _ending(self, text: str) -> tuple[int, ...]:
        return () if self.raw and text.strip() and text[-1].isspace() else (self.end,)

    def _turns(self, system: str, question: str, before: Turns = ()) -> list[tuple[str, str]]:
        (role, first), *others = [*before, ("user", question)]
        if not system:
            return [(role, first), *others]
        return [(role, f"{system}\n\n{first}"), *others] if self._folded else [("system", system), (role, first), *others]

    def _check_template(self) -> None:
        """Find out, with texts that mean nothing, how the template wants to be used. Raises `ConfigError` where it cannot be.

        A template that refuses a system message, or leaves it out, gets it in the question, and that is said once.
        """
        try:
            self._folded = _TOLD not in self._filled(self._turns(_TOLD, _ASKED))
        except ConfigError:
            self._folded = True
        if _ASKED not in self._filled(self._turns(self.system_prompt and _TOLD, _ASKED)):
            raise ConfigError("the tokenizer's chat template leaves the question out; use --set model.template=plain")
        if self._folded and self.system_prompt:
            _warn_once("the tokenizer's chat template takes no system message: model.system_prompt is put before each question")

    def _filled(self, turns: Turns) -> str:
        """What the template writes for these turns; it asks for an answer where the last is not one."""
        messages = [{"role": role, "content": text} for role, text in turns]
        options = {**self.template_options, "tokenize": False, "add_generation_prompt": turns[-1][0] != "assistant"}
        try:
            return str(self.tokenizer.apply_chat_template(messages, **options))
        except Exception as error:  # a template is a program: it may raise anything
            why = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        # Its words may quote a text that is secret.
        ours = all(text in (_ASKED, _TOLD, f"{_TOLD}\n\n{_ASKED}", _SENTINEL) for _, text in turns)
        reason = why[:200] if ours else "on this text, though not on every one"
        raise ConfigError(
            f"the tokenizer's chat template fails: {reason}; give it the variables it needs in model.template_options, "
            "or use --set model.template=plain"
        )

    def _chat_end(self) -> int | None:
        """The special token that the template writes after an answer."""
        after = self._filled([*self._turns(self.system_prompt and _TOLD, _ASKED), ("assistant", _SENTINEL)]).partition(_SENTINEL)[2]
        ids = self._ids(after)
        return ids[0] if ids and ids[0] in self.tokenizer.all_special_ids else None
