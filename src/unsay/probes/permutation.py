"""The permutation: what an answer scores by accident, on other questions' references. One that knows nothing scores about that on its
own, from common words and lucky guesses; one that knows scores more. The comparison where no model is at hand that never knew.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from unsay.probes.scoring import Secrets, known, once, spread
from unsay.text import forms, keyword_forms
from unsay.types import Case, Example

OTHERS = 20
"""Most other questions whose references an answer is held against."""
ALONE = "no other question whose reference has words of its own"


def by_accident(case: Case, example: Example, texts: Iterable[str], prefix: str = "") -> float | None:
    """The highest keyword recall that any of the texts has against the reference of each of at most `OTHERS` other questions, on average
    over these. `None` where there is nothing to compare with.

    The others are evenly spread: of other groups where possible, because what is said of the same person may be known and no accident;
    of what may stay, where nothing else is to be forgotten. The secret's own words never count, whosever reference holds them (else two
    equal answers would make what is known look like luck), nor do words of either question or of a `prefix`.
    """
    own = [case.facts[example.id].answer] if example.id in case.facts else []
    known_words = forms("\n".join((example.question, prefix, *own, *example.strings)))
    references = [_without(keys, known_words) for keys in once(case, _Others).keys(example, known_words)]
    if not references:
        pairs = spread((*case.corpus.retain, *case.corpus.general), OTHERS)
        left = [_without(keyword_forms(pair.answer, pair.question), known_words) for pair in pairs]
        references = [keys for keys in left if keys]
    told = {forms(text) for text in texts}
    if not told or not references:
        return None
    best = [max(sum(w for form, w in keys.items() if form in said) for said in told) / sum(keys.values()) for keys in references]
    return sum(best) / len(best)


class _Others:
    """Which secrets belong to other questions."""

    def __init__(self, case: Case):
        self._several = len({example.group for example, _ in known(case)}) > 1
        self._secrets = once(case, Secrets)
        self._ids, self._groups = (np.asarray(some, np.int64) for some in (self._secrets.ids, self._secrets.groups))

    def keys(self, example: Example, known_words: frozenset[str]) -> list[Mapping[str, float]]:
        """At most `OTHERS`, evenly spread: of other groups, where there are any, and none that has no word but the known ones."""
        mates = example.group and self._several
        apart = self._groups != hash(example.group) if mates else self._ids != hash(example.id)
        for equal in self._secrets.within(known_words):
            apart[np.asarray(equal)] = False
        left = np.flatnonzero(apart)
        return [self._secrets[int(left[number])] for number in spread(range(len(left)), OTHERS)]


def _without(keys: Mapping[str, float], words: frozenset[str]) -> dict[str, float]:
    return {form: weight for form, weight in keys.items() if form not in words}
