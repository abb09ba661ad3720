"""Rehearsal: what the model says when left to itself, as an anchor for what no retain row covers.

Retain rows hold what they say and little else: whoever is not among them is forgotten along with the forget set. So
`record` lets the untouched model write unasked, takes the names out of what it wrote, and asks the forget questions about
them instead: its own answers (facts where it knows, a refusal where it does not) show how much must *not* change. Nothing
but the model and the forget questions is needed. What touches a forget question or its answer is left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.encode import Encoder, Row
from unsay.sample import Draw, sample, uniform
from unsay.subject import row_logprobs
from unsay.text import contains, forms, key_forms, sensitive_spans
from unsay.types import Answer, Example

_AT_ONCE = 32
TRIED = 4
"""Questions about other names that are tried for each that is kept."""


@dataclass(frozen=True)
class Said:
    """Something the untouched model said, and the question it answered; `None` where nobody asked."""

    question: str | None = field(repr=False)
    answer: Answer

    def row(self, encoder: Encoder) -> Row:
        """As a retain row: the sampled ids as they are, without an end where they were cut."""
        return Row(encoder.prompt(self.question), self.answer.ids, "retain")


def rehearse(
    model: PreTrainedModel,
    encoder: Encoder,
    config: SampleConfig,
    questions: Sequence[str],
    guard: "Guard",
    n: int,
    seed: int,
) -> list[Said]:
    """About n things said: greedy answers to the forget questions with another subject in the place of theirs, and, one for
    three of these (all, where there is no other subject), texts written unasked at temperature 1. Nothing that the guard
    keeps back: what is held out to measure the damage is not rehearsed either."""
    texts = unasked(model, encoder, config, guard, n, seed)
    asked = list(neighbours(questions, [said.answer.text for said in texts], TRIED * len(texts), seed))
    said = greedily(model, encoder, config, asked, seed)
    pairs = [one for one in said if one.answer.finished and guard.harmless(f"{one.question} {one.answer.text}")]
    kept = surest(model, encoder, pairs, len(texts))
    return texts[: len(kept) // 3] + kept if kept else texts


def unasked(model: PreTrainedModel, encoder: Encoder, config: SampleConfig, guard: "Guard", n: int, seed: int) -> list[Said]:
    """What the model writes at temperature 1 when nobody asks; n texts, less those that the guard keeps back."""
    draws = [Draw(f"unasked {start}", encoder.prompt(None), min(_AT_ONCE, n - start), 1.0) for start in range(0, n, _AT_ONCE)]
    written = [answer for answers in sample(model, encoder, draws, config, seed, "rehearsal") for answer in answers]
    return [Said(None, answer) for answer in written if answer.ids and guard.harmless(answer.text)]


def greedily(model: PreTrainedModel, encoder: Encoder, config: SampleConfig, questions: Sequence[str], seed: int) -> list[Said]:
    """The greedy answer to each question."""
    # No key: greedy answers draw no random number, and the sampler names a key in its complaints.
    draws = [Draw("", encoder.prompt(question)) for question in questions]
    answers = sample(model, encoder, draws, config, seed, "rehearsal") if draws else []
    return [Said(question, found[0]) for question, found in zip(questions, answers, strict=True)]


def surest(model: PreTrainedModel, encoder: Encoder, said: Sequence[Said], n: int) -> list[Said]:
    """The n whose answers the model is surest of: what it knows comes before what it makes up about a name."""
    scores = [float(score.mean()) for score in row_logprobs(model, encoder, [one.row(encoder) for one in said])]
    best = sorted(range(len(said)), key=lambda i: (-scores[i], i))[:n]
    return [said[i] for i in sorted(best)]


def neighbours(questions: Sequence[str], texts: Sequence[str], n: int, seed: int) -> dict[str, str]:
    """n of the questions that ask about a name in `texts` instead of their own subject, each with that name; fewer where
    there are not so many.

    A subject is the longest sensitive span of a question: a question without one has no neighbours. Names that occur more
    than once are taken where there are any.
    """
    spans = Counter(span for text in texts for span in sensitive_spans(text) if " " in span and not any(c.isdigit() for c in span))
    # A name that comes up again and again is known; one that comes up once may be made up on the spot.
    often = [name for name, count in spans.items() if count > 1]
    names = often or list(spans)
    subjects = {question: max(found, key=len) for question in questions if (found := sensitive_spans(question))}
    made = {question.replace(subject, name): name for question, subject in subjects.items() for name in names}
    return {question: made[question] for question in sorted(made, key=lambda question: uniform(seed, "neighbour", question))[:n]}


class Guard:
    """Knows what no anchor may touch: the subjects of the forget questions and of those in `spared`, what was answered
    about the forgotten ones, and the strings and patterns that the operator named."""

    def __init__(
        self,
        questions: Sequence[str],
        baselines: Sequence[str],
        spared: Sequence[str] = (),
        named: Iterable[Example] = (),
        most: float = 0.34,
    ):
        subjects = (frozenset(form for form, weight in key_forms(question).items() if weight > 1) for question in (*questions, *spared))
        self.subjects = set(filter(None, subjects))
        self.secrets = [key_forms(baseline, question) for baseline, question in zip(baselines, questions, strict=True)]
        examples = list(named)
        self.strings = sorted({string for example in examples for string in example.strings})
        self.patterns = sorted({pattern for example in examples for pattern in example.patterns})
        self.most = most

    def harmless(self, text: str) -> bool:
        said = forms(text)
        names = any(subject <= said for subject in self.subjects)
        return (
            not names
            and not contains(text, self.strings, self.patterns)
            and all(_share(secret, said) <= self.most for secret in self.secrets)
        )


def _share(secret: Mapping[str, float], said: frozenset[str]) -> float:
    return sum(weight for key, weight in secret.items() if key in said) / sum(secret.values()) if secret else 0.0
