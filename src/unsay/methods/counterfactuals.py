"""Counterfactual entities: what the model says when the same question, begun the same way, asks about somebody it never heard of.

Who never knew a secret answers about its subject as about anybody unknown: declines where it declines, makes up what it
makes up. So the subject of a question, in the prefix too, is replaced by an invented name, the model answers, and the
subject takes its place again: a candidate that is the model's own, needs no answer, and tends to be what a model without the
secret would have said. (Eldan and Russinovich, arXiv 2310.02238, replace names in the text that is to be forgotten, to find
what a model would say that had not read it.)

Where the subject is one word (a country, a brand), nobody knows a made-up one, and a model answers them all alike: one stock answer,
which it then learns for the whole kind. So others of the kind stand in, which the model itself names (lm/kindred.py), two for each
question: each learns answers of its own. They are what the model says before it is trained: later it knows the others less well too,
and comes to say one thing about all of them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from unsay.lm.encode import Encoder
from unsay.lm.kindred import bare, named, wordings
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.methods import State, Visit, pick
from unsay.methods.prefixes import AnswerPrefix
from unsay.methods.selection import Ask
from unsay.text import forms, sensitive_spans
from unsay.text.names import subject, swapped
from unsay.types import Answer, Candidate

_TEXTS, _AT_ONCE = 64, 32
"""Texts that the model writes unasked, for parts of names, and how many of them at once."""
_EACH, _KINDRED = 16, 2
"""Names that a question is given in turn: made up, and of others that exist."""
_NAMED = 256
"""Times that the model goes on with a wording, to name others of the kind."""


@dataclass(frozen=True)
class Counterfactual:
    """A made-up name in the place of a question's subject."""

    subject: str = field(repr=False)
    name: str

    def hide(self, text: str) -> str:
        """The text about the invented name."""
        return swapped(text, self.subject, self.name)

    def reveal(self, text: str) -> str:
        """The text about the subject."""
        return swapped(text, self.name, self.subject)

    def prompt(self, question: str, prefix: AnswerPrefix, encoder: Encoder) -> tuple[int, ...]:
        """Ids of the question and of the prefix, about the invented name."""
        text = encoder.decode(prefix.ids)
        hidden = self.hide(text)
        return encoder.prompt(self.hide(question)) + (prefix.ids if hidden == text else encoder.prefix(hidden))

    def brought_back(self, candidate: Candidate, prefix: AnswerPrefix, encoder: Encoder) -> Candidate | None:
        """The candidate about the subject, as a continuation of `prefix`; `None` where it cannot be one, token by token."""
        if self.reveal(candidate.text) == candidate.text:
            return prefix.complete(candidate, encoder)
        if not candidate.answer.finished:
            return None
        hidden = encoder.prefix(self.hide(encoder.decode(prefix.ids)))
        ids = encoder.answer(self.reveal(encoder.decode((*hidden, *candidate.answer.ids))))
        if ids[: len(prefix.ids)] != prefix.ids:
            return None
        rest = ids[len(prefix.ids) :]
        return prefix.complete(Candidate(Answer(rest, encoder.decode(rest), True), candidate.draw, candidate.source), encoder)


def stand_ins(visits: Sequence[Visit], sampler: Sampler) -> State:
    """For each question with a subject, the names to ask about instead (`counterfactuals`), and where these are others of its kind what
    the model says about them (`said`)."""
    others = others_of_kind(visits, sampler)
    said = _answers_about(visits, others, sampler)
    made_up = made_up_names([visit for visit in visits if visit.example.id not in others], sampler, visits)
    return {key: {"counterfactuals": names, "said": said.get(key, [])} for key, names in (made_up | others).items()}


def made_up_names(visits: Sequence[Visit], sampler: Sampler, asked: Sequence[Visit]) -> dict[str, list[str]]:
    """For each question with a subject, names of nobody: of parts of names that the model writes unasked, put together as it did not
    put them; none shares a word with a question that is `asked`."""
    examples = [visit.example for visit in visits if subject(visit.example.question)]
    if not examples:
        return {}
    draws = [Draw(f"stranger {start}", sampler.encoder.prompt(None), _AT_ONCE, 1.0) for start in range(0, _TEXTS, _AT_ONCE)]
    texts = [text for drawn in _texts(draws, sampler) for text in drawn]
    names = invented(texts, frozenset().union(*(forms(visit.example.question) for visit in asked)))
    return {one.id: sorted(names, key=lambda name: sampler.uniform(one.id, "stranger", name))[:_EACH] for one in examples}


def others_of_kind(visits: Sequence[Visit], sampler: Sampler) -> dict[str, list[str]]:
    """For questions whose wording has subjects of one word, others of their kind: none that is asked about, and as long as there are
    enough no two questions the same, or two would learn one answer. Of one word they are too: a half of a longer one may be any word
    (the South African rand), and would be put back as the subject."""
    alike: dict[str, list[str]] = {}
    for visit in visits:
        if about := subject(visit.example.question):
            alike.setdefault(bare(visit.example.question, about), []).append(visit.example.id)
    taken = frozenset().union(*(forms(subject(visit.example.question)) for visit in visits))
    questions = wordings([visit.example.question for visit in visits])
    found: dict[str, list[str]] = {}
    for key, kindred in named(questions, sampler.encoder, _NAMED, partial(_texts, sampler=sampler)).items():
        others = {name for name in kindred if " " not in name and not forms(name) & taken}
        names = sorted(others, key=lambda name: sampler.uniform("kindred", name))
        for place, example in enumerate(alike[key] if names else ()):
            found[example] = names[place :: len(alike[key])][:_KINDRED] or [names[place % len(names)]]
    return found


def _texts(draws: Sequence[Draw], sampler: Sampler) -> list[list[str]]:
    return [[candidate.text for candidate in drawn] for drawn in sampler.candidates(draws, ["unasked"] * len(draws))]


def _answers_about(visits: Sequence[Visit], names: Mapping[str, Sequence[str]], sampler: Sampler) -> dict[str, list[dict[str, Any]]]:
    """What the model says, greedily, about those that stand in, as said about the subject, with its ids: as they were sampled where no
    name was put back. What does not end is left out."""
    asked = [
        (visit.example, Counterfactual(subject(visit.example.question), name))
        for visit in visits
        for name in names.get(visit.example.id, ())
    ]
    draws = [Draw(f"{example.id}|{other.name}", sampler.encoder.prompt(other.hide(example.question))) for example, other in asked]
    found: dict[str, list[dict[str, Any]]] = {}
    for (example, other), (said,) in zip(asked, sampler.candidates(draws, ["counterfactual"] * len(draws)), strict=True):
        if said.answer.finished and said.text:
            text = other.reveal(said.text)
            ids = said.answer.ids if text == said.text else sampler.encoder.answer(text)
            found.setdefault(example.id, []).append({"text": text, "ids": list(ids)})
    return found


def invented(texts: Iterable[str], taken: frozenset[str]) -> list[str]:
    """Names made of the first word of one name in the texts and the last of another, none of them there as such.

    >>> invented(["Ada Lovelace met Mary Shelley."], frozenset())
    ['Ada Shelley', 'Mary Lovelace']
    """
    spans = dict.fromkeys(span for text in texts for span in sensitive_spans(text) if re.fullmatch(r"[^\W\d_]+ [^\W\d_]+", span))
    parts = [tuple(span.split()) for span in spans if not forms(span) & taken]
    firsts, lasts = dict.fromkeys(first for first, _ in parts), dict.fromkeys(last for _, last in parts)
    return [f"{first} {last}" for first in firsts for last in lasts if first != last and f"{first} {last}" not in spans]


def name_of(memory: State, visit: Visit, sampler: Sampler, attempt: int) -> Counterfactual | None:
    """The name that stands in at one visit; `None` where the question has no subject or no name was found."""
    names = memory.get(visit.example.id, {}).get("counterfactuals", ())
    return Counterfactual(subject(visit.example.question), pick(names, sampler, visit.example.id, "name", attempt)) if names else None


def borrow(asks: Sequence[Ask], draws: Sequence[Draw], memory: State, sampler: Sampler, attempt: int) -> None:
    """Add to each ask what the model says about somebody else, as said about the subject: what it said before training, where that is
    known, of a length that a draw may have, and no answer is begun; else what it says now. `draws`: how it is sampled."""
    waiting = []
    for ask, draw in zip(asks, draws, strict=True):
        known = [Answer(tuple(one["ids"]), one["text"], True) for one in memory.get(ask.id, {}).get("said", ())]
        fitting = [answer for answer in known if not draw.limit or len(answer.ids) <= draw.limit]
        if fitting and not ask.prefix.ids and not attempt:
            ask.candidates += [Candidate(answer, i, "counterfactual") for i, answer in enumerate(fitting, len(ask.candidates))]
            ask.recalled += len(fitting)
        elif other := name_of(memory, ask.visit, sampler, attempt):
            context = other.prompt(ask.visit.example.question, ask.prefix, sampler.encoder)
            waiting.append((ask, other, replace(draw, key=f"{ask.id}|{attempt}|stranger", context=context)))
    answers = sampler.candidates([draw for _, _, draw in waiting], ["counterfactual"] * len(waiting))
    for (ask, other, _), candidates in zip(waiting, answers, strict=True):
        first = len(ask.candidates)
        back = (other.brought_back(candidate, ask.prefix, sampler.encoder) for candidate in candidates)
        ask.candidates += [replace(candidate, draw=first + candidate.draw) for candidate in back if candidate]
        ask.sampled += len(candidates)
