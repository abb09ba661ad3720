"""The permutation: what an answer scores by accident: the comparison where no model is at hand that never knew.

The same answers are scored on other questions' references. An answer that knows nothing scores about that on its own, from
common words and lucky guesses; one that knows scores more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unsay.probes.scoring import known, spread
from unsay.text import forms, keyword_forms
from unsay.types import Case, Example, Fact

ALONE = "no other question whose reference has words of its own"


@dataclass(frozen=True)
class Permutation:
    """Keyword recall against the references of other questions. `keys`: of each of them, form → weight."""

    keys: tuple[dict[str, float], ...]

    @classmethod
    def of(cls, case: Case, example: Example, prefix: str = "", most: int = 20) -> "Permutation":
        """At most `most` other questions, evenly spread: of other groups, where there are any, because what is said of the
        same person may be known and no accident; of what may stay, where nothing else is to be forgotten. The secret's own words never
        count, whosever reference holds them: two wordings of one secret, or two equal answers, would make what is known look like
        luck. Nor do words of their question, of the one that was asked, and of a `prefix`."""
        others = [(other, fact) for other, fact in known(case) if other.id != example.id]
        others = [(other, fact) for other, fact in others if not example.group or other.group != example.group] or others
        own = [case.facts[example.id].answer] if example.id in case.facts else []
        said = forms("\n".join((example.question, prefix, *own, *example.strings)))
        left = [_without(_keys(other, fact), said) for other, fact in others]
        if not any(left):
            pairs = spread((*case.corpus.retain, *case.corpus.general), most)
            left = [_without(keyword_forms(pair.answer, pair.question), said) for pair in pairs]
        return cls(tuple(spread([keys for keys in left if keys], most)))

    def worst(self, texts: Iterable[str]) -> float | None:
        """The highest keyword recall that any of the texts has against each reference, on average over the references.

        Of one text its mean keyword recall. `None` where there is nothing to compare with.
        """
        told = {forms(text) for text in texts}
        if not told or not self.keys:
            return None
        return sum(max(_recall(keys, said) for said in told) for keys in self.keys) / len(self.keys)


def _keys(example: Example, fact: Fact) -> Mapping[str, float]:
    return keyword_forms(fact.answer, example.question, "", (*example.strings, *example.spans), example.struck)


def _without(keys: Mapping[str, float], said: frozenset[str]) -> dict[str, float]:
    return {form: weight for form, weight in keys.items() if form not in said}


def _recall(keys: dict[str, float], said: frozenset[str]) -> float:
    return sum(weight for form, weight in keys.items() if form in said) / sum(keys.values())
