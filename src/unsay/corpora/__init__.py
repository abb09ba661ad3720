"""Where questions come from. One corpus is one file here, one line in `unsay.tables.CORPORA`, one test.

Contract: a frozen dataclass whose fields are its knobs, with three methods:

* `corpus() -> Corpus`: forget *questions*, retain rows, utility sets, controls. No forget answer.
* `truth() -> Truth | None`: the ground truth of the forget questions, for the audit alone; `None` where nobody has it.
* `finetuning_rows(retain_model: bool) -> tuple[Pair, ...]`: what `finetune` plants, without the forget rows when `retain_model`; empty
  where the model knows already.

`public = True` beside its knobs says that its retain rows are no secrets: the report may show answers to them. `raw = True` says that
its questions are openings of texts, meant for `model.template = "raw"`.

The first line of its docstring is what `unsay corpora` prints. A corpus that reads the operator's own files offers two more
(`Handed`), so that `unsay check` can look through them and a run notices that they have changed.
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from unsay.types import Corpus, Pair, Truth

if TYPE_CHECKING:
    from unsay.corpora.checked import Notice, Summary


class Source(Protocol):
    def corpus(self) -> Corpus: ...
    def truth(self) -> Truth | None: ...
    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]: ...


@runtime_checkable
class Handed(Protocol):
    """A corpus of the operator's own files."""

    def paths(self) -> tuple[str, ...]:
        """The files that it reads."""
        ...

    def examined(self, system_prompt: str) -> "tuple[list[Summary], list[Notice]]":
        """The files in numbers, and everything that is to be said about them, errors first. `system_prompt`: of the recipe."""
        ...
