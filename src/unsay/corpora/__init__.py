"""Where questions come from. One corpus is one file here, one line in `unsay.tables.CORPORA`, one test.

Contract: a frozen dataclass whose fields are its knobs, with three methods:

* `corpus() -> Corpus`: forget *questions*, retain rows, utility sets, controls. No forget answer.
* `truth() -> Truth | None`: the ground truth of the forget questions, for the audit alone; `None` where nobody has it.
* `finetuning_rows(retain_model: bool) -> tuple[Pair, ...]`: what `finetune` plants, without the forget rows when `retain_model`; empty
  where the model knows already.

`public = True` beside its knobs says that its retain rows are no secrets: the report may show answers to them. `raw = True` says that
its questions are openings of texts, meant for `model.template = "raw"`. The first line of its docstring is what `unsay corpora` prints.
"""

from typing import Protocol

from unsay.types import Corpus, Pair, Truth


class Source(Protocol):
    def corpus(self) -> Corpus: ...
    def truth(self) -> Truth | None: ...
    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]: ...
