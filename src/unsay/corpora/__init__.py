"""Where questions come from. One corpus is one file here, one line in `TABLE`, one test.

Contract: a frozen dataclass whose fields are its knobs, with three methods:

* `corpus() -> Corpus`: forget *questions*, retain rows, utility sets, controls. No forget answer.
* `truth() -> Truth | None`: the ground truth of the forget questions, for the audit alone; `None` where nobody has it.
* `planting(gold: bool) -> tuple[Pair, ...]`: what `finetune` plants, without the forget rows when `gold`; empty where
  the model knows already.

The first line of its docstring is what `unsay corpora` prints.
"""

from typing import Protocol

from unsay.types import Corpus, Pair, Truth

GROUP = "unsay.corpora"
TABLE = {
    "people": "unsay.corpora.people:People",
    "tofu": "unsay.corpora.tofu:Tofu",
    "facts": "unsay.corpora.facts:Facts",
    "files": "unsay.corpora.files:Files",
}


class Source(Protocol):
    def corpus(self) -> Corpus: ...
    def truth(self) -> Truth | None: ...
    def planting(self, gold: bool) -> tuple[Pair, ...]: ...
