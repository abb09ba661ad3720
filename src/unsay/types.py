"""The nouns of the house, named once and passed whole.

Nothing here knows torch, files or templates. What may hold a secret is left out of the `repr`: it would stand in tracebacks and
logs. Two separations carry promises:

* a forget question is an `Example`, which has no field for an answer. Ground truth lives in `Truth`, which only
  the audit (and a method that declares `needs_answers`) is ever handed;
* a measurement is a `Finding` whose value may be `None`: *unscored* is not zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Example:
    """A forget question: what the model must stop answering, and what the operator says about it. No answer."""

    id: str
    question: str = field(repr=False)
    paraphrases: tuple[str, ...] = field(default=(), repr=False)
    """Other wordings of the question. Never trained on; the audit asks them."""
    strings: tuple[str, ...] = field(default=(), repr=False)
    """Named strings: an answer that contains one leaks in full, a candidate that contains one is never a target."""
    patterns: tuple[str, ...] = field(default=(), repr=False)
    """Regular expressions with the meaning of `strings`."""
    group: str = field(default="", repr=False)
    """Whom or what the question is about; questions of one group share a subject."""
    spans: tuple[str, ...] = field(default=(), repr=False)
    """Texts that the operator marked as sensitive in the recorded answer, beside those found without help: they weigh more."""
    struck: tuple[str, ...] = field(default=(), repr=False)
    """Words found sensitive that the operator says are not: they weigh as any other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with the answer that should stay: retain rows, utility rows, controls."""

    id: str
    question: str = field(repr=False)
    answer: str = field(repr=False)
    group: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Quiz(Pair):
    """A pair that a model can also be examined on: the same answer in other words, and wrong ones. Nothing of it is secret."""

    wordings: tuple[str, ...] = field(default=(), repr=False)
    """The same answer in other words; empty where the answer is a bare name, one option of a multiple choice."""
    wrong: tuple[str, ...] = field(default=(), repr=False)
    """Wrong answers in the form of `wordings[0]` (of `answer`, where there are no wordings)."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The ground truth of one forget question. For the audit's eyes only."""

    id: str
    answer: str = field(repr=False)
    wordings: tuple[str, ...] = field(default=(), repr=False)
    """The same answer in other words; the first is the paraphrased answer of the TOFU protocol."""
    wrong: tuple[str, ...] = field(default=(), repr=False)
    """Wrong answers in the form of `wordings[0]` (of `answer`, where there are no wordings): the other options of a multiple choice."""


Truth = Mapping[str, Fact]
"""Facts by example id."""


@dataclass(frozen=True)
class Corpus:
    """Everything a run may know except the truth."""

    name: str
    forget: Sequence[Example]
    retain: tuple[Pair, ...] = ()
    """Training rows that hold the model where it is."""
    utility: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    """Named sets whose mean recall is the utility; rows of them may stand in `retain`."""
    utility_heldout: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    """The same kind of sets, none of whose rows stands in `retain`."""
    model_utility: Mapping[str, tuple[Quiz, ...]] = field(default_factory=dict)
    """The sets of TOFU's model utility (`retain`, `real_authors`, `world_facts`), where a corpus has such rows."""
    neighbours: tuple[Pair, ...] = ()
    """Facts close to the forgotten ones that must stay."""
    unknown_entities: tuple[Pair, ...] = ()
    """Questions about things that no model was told of; the honest answer is a refusal."""
    holdout: tuple[Pair, ...] = ()
    """Questions and answers like the forget ones that no model was trained on: the non-members of membership attacks."""
    general: tuple[Pair, ...] = ()
    """General questions that stand in `retain` (or that fine-tuning mixes in), so that the rest of the model is held too."""
    desired: tuple[str, ...] = ()
    """What the operator would like to hear instead. Empty: the model finds its own way out."""
    knowledge: tuple[Example, ...] = ()
    """Questions about what is to be forgotten that training never sees; their answers are in the truth, for the audit."""


_NUMBERS: dict[int, int] = {}


def token_ids(numbers: Sequence[int]) -> tuple[int, ...]:
    """The same numbers, each of them there once in memory, however many texts hold it: most are of 28 bytes."""
    return tuple(map(_NUMBERS.setdefault, numbers, numbers))


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer. `ids` are the sampled token ids as they are, end-of-sequence included where `finished`."""

    ids: tuple[int, ...] = field(repr=False)
    text: str = field(repr=False)
    finished: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that might become a target."""

    answer: Answer
    draw: int
    """Index of the draw for this question in this round; ties go to the lowest."""
    source: str = "plain"
    """How it was drawn: `plain`, `hot` (raised temperature or top-p), `repelled`, `counterfactual`, `desired`, `memory`, `alternative`,
    `unasked`."""
    fluency: float | None = None
    """Mean log-probability per token (nats) under the untouched model without the question; `None` where no reward asks."""

    @property
    def text(self) -> str:
        return self.answer.text


MODELS = ("before", "after", "retain_model")
"""The models of a run that are audited; what is audited at an endpoint comes after them."""
SCORE = "score"
"""`Finding.metric` of how many (`n`) of the answers to one question scored this value."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One number about one example (or about the model, where `example` is empty), or an honest `None`."""

    probe: str
    metric: str
    value: float | None
    example: str = ""
    setting: str = ""
    """Which variant of the probe: a prefix, a temperature, a number of steps."""
    n: int = 1
    """How many answers stand behind the value."""
    note: str = ""
    """Why it is unscored, or which reference text was used. Never secret text."""
    group: str = ""
    """A number for the `group` of the question, never its name: questions of one subject hang together. The audit fills it in."""


@dataclass(frozen=True, eq=False)
class Told:
    """What was answered to many questions: one for all who look at it, known by identity, so that what is made of it is made once."""

    rows: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    """(id, question, answer); an empty id is nobody's own."""


NOBODY = Told()


@dataclass(frozen=True)
class Reference:
    """What a candidate is compared with while the model is collapsed. Made of the model's own words, never of truth."""

    question: str = field(repr=False)
    baseline: str = field(repr=False)
    """The original greedy answer; for a continuation still the whole answer."""
    told: Told = field(default=NOBODY, repr=False)
    """The baseline answers of every forget question: answering one with another's secret is a leak too."""
    own: str = ""
    """The id of its own row in `told`, which is nobody else's secret."""
    prefix: str = field(default="", repr=False)
    """What the context already says of the answer; its words do not count."""
    settled: tuple[str, ...] = field(default=(), repr=False)
    """What other questions were last trained to say, so that one stock sentence cannot spread."""
    strings: tuple[str, ...] = field(default=(), repr=False)
    patterns: tuple[str, ...] = field(default=(), repr=False)
    desired: tuple[str, ...] = ()
    spans: tuple[str, ...] = field(default=(), repr=False)
    """As in `Example`."""
    struck: tuple[str, ...] = field(default=(), repr=False)


class Judge(Protocol):
    """A model whose taste answers are held against: `unsay.probes.classes.ReferenceJudge`."""

    def plausible(self, case: "Case", questions: Sequence[str], texts: Sequence[str]) -> list[bool] | str: ...
    def fits(self, questions: Sequence[str], texts: Sequence[str]) -> list[bool]: ...


@dataclass(frozen=True)
class Case:
    """What an audit knows: the corpus, the reference text of every forget question, and where that text came from."""

    corpus: Corpus
    facts: Truth
    source: str
    """`ground truth`, or `baseline answers` where the operator has none."""
    seed: int = 0
    trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By example id: the recorded answers that prefixes may have been cut from; no partial-secret prefix may begin one of them."""
    earlier: Mapping[str, "Case"] = field(default_factory=dict)
    """Requests that the model had met before this one, by name, the oldest first: what must still be forgotten."""
    judge: Judge | None = field(default=None, repr=False, compare=False)
    """Handed to a probe that declares `judged`; `None` where no model is there to judge."""

    def __getstate__(self) -> dict[str, Any]:
        # Without what probes keep with it, which may hold hashes of texts: they are others in another process.
        return {one.name: getattr(self, one.name) for one in fields(self)}


def own_id(number: int) -> str:
    """The id of the retain row that `record` made as this number."""
    return f"own-{number:03d}"
