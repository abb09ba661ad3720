"""How a model is changed. One method is one file here (or a close family), one line in `unsay.tables.METHODS`, one test.

Contract: a frozen dataclass whose fields are its knobs, with two verbs and, where it needs one, a third.

* `targets(visits, sampler, state) -> (targets, state)` says what the model should say instead. No gradient. `state` is a
  plain JSON mapping by example id, which the loop saves and restores; a method that needs none returns it as it came.
* `loss(model, reference, batch) -> {term: tensor}` says how far the model is from that; the sum of the terms is the loss.
  Pure: testable without sampling. Every term is a mean over the whole optimizer step, of tokens (`Batch.mean`) or of pairs.
* `prepare(visits, sampler) -> state` (optional, `Prepared`) is called once, before the first step, with every visit: what a
  method must know of the model as it was (log-probabilities of fixed answers, answers of its own) is found here, and no
  copy of the weights and no further forward pass is needed. It becomes the first `state`.

Class attributes: `needs_answers` (handed the truth, or the baseline answer where there is none), `needs_reference`
(handed the `Untouched` model: `reference.answer_logprobs(batch)`), and optionally `PRESETS` (name → knob values; `preset`
is then a knob). A preset belongs to the class that declares it: a recipe that chooses one of a base class builds that class, with
its knobs alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor
from transformers import PreTrainedModel

from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch, Row
from unsay.lm.sampler import Sampler
from unsay.types import NOBODY, Answer, Example, Reference, Told

T = TypeVar("T")
LOSS = "loss"
"""The reader in `Target.reads` that comes by again with every pass over the targets; what others read, they read once."""

State = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Visit:
    """One forget question with what `record` wrote down about it."""

    example: Example
    baseline: str = field(repr=False)
    """The model's own original greedy answer."""
    answers: Iterable[Answer] = ()
    """Other answers it gave when sampled: prefixes are cut from them."""
    told: Told = field(default=NOBODY, repr=False)
    """The baseline answers of all forget questions: one secret must not be answered with another."""
    desired: tuple[str, ...] = ()
    """What the operator would like to hear instead, where the corpus says so."""
    truth: str | None = field(default=None, repr=False)
    """The ground truth; `None` unless the method declares `needs_answers` and somebody has it."""
    withheld: tuple[str, ...] = field(default=(), repr=False)
    """Beginnings, in any casing, that no prefix may have: the audit attacks with them."""

    @property
    def known(self) -> str:
        """The answer that is to go: the truth where it was handed over, else what the model used to say."""
        return self.truth if self.truth is not None else self.baseline

    def reference(self, desired: tuple[str, ...] = ()) -> Reference:
        """What candidates for a target are compared with; `desired` goes before what the corpus says."""
        return Reference(
            self.example.question,
            self.baseline,
            self.told,
            self.example.id,
            strings=self.example.strings,
            patterns=self.example.patterns,
            spans=self.example.spans,
            struck=self.example.struck,
            desired=desired or self.desired,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What one visit adds to the loss (its retain row apart), and what the exposure ledger notes about it."""

    example: str
    rows: tuple[Row, ...] = ()
    """Empty: this visit found nothing worth training on and gives only its retain term."""
    text: str = field(default="", repr=False)
    """What the `forget` row says, in words."""
    prefix: str = field(default="", repr=False)
    """What its context had already said of an answer."""
    rejected: str = field(default="", repr=False)
    """What a further row pushes away, in words: an answer, or the first piece of one of its words."""
    source: str = ""
    sampled: int = 0
    """Candidates drawn."""
    temperature: float = 0.0
    reads: Mapping[str, int] = field(default_factory=dict)
    """How often the baseline answer (or the truth) was read in this visit, by what."""


@cache
def reads(*by: tuple[str, int]) -> Mapping[str, int]:
    """`Target.reads`, one for all targets that were found alike."""
    return dict(by)


class Method(Protocol):
    needs_answers: ClassVar[bool]
    needs_reference: ClassVar[bool]
    # One with a knob `retain_weight` multiplies its term "retain" by it.
    # One without a term "retain" says `uses_retain_rows = False`, and is charged for no retain row.

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]: ...
    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]: ...


def pick(items: Sequence[T], sampler: Sampler, *names: object) -> T:
    """One of the items, by the random number of these names."""
    return items[int(sampler.uniform(*names) * len(items))]


def uses_retain_rows(method: Method) -> bool:
    """Whether retain rows are drawn for it."""
    return bool(getattr(method, "uses_retain_rows", True))


@runtime_checkable
class Scoring(Protocol):
    """A method that scores candidates with rewards, whose knobs stand in tables of their own."""

    def scored_with(self, tables: Mapping[str, Mapping[str, Any]]) -> "Method": ...


@runtime_checkable
class Prepared(Protocol):
    """A method with something to find out about the model before it is touched."""

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State: ...
