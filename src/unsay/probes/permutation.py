"""The permutation: what an answer scores by accident: the comparison where no model is at hand that never knew.

The same answers are scored on other questions' references. An answer that knows nothing scores about that on its own, from
common words and lucky guesses; one that knows scores more.
"""

from collections.abc import Iterable, Mapping

from unsay.probes.scoring import known, secret_forms, spread
from unsay.text import forms, keyword_forms
from unsay.types import Case, Example

ALONE = "no other question whose reference has words of its own"


def by_accident(case: Case, example: Example, texts: Iterable[str], prefix: str = "", most: int = 20) -> float | None:
    """The highest keyword recall that any of the texts has against the reference of each of at most `most` other questions, on average
    over these; of one text its mean keyword recall. `None` where there is nothing to compare with.

    The others are evenly spread: of other groups, where there are any, because what is said of the same person may be known and no
    accident; of what may stay, where nothing else is to be forgotten. The secret's own words never count, whosever reference holds
    them: two wordings of one secret, or two equal answers, would make what is known look like luck. Nor do words of their question,
    of the one that was asked, and of a `prefix`.
    """
    others = [(other, fact) for other, fact in known(case) if other.id != example.id]
    others = [(other, fact) for other, fact in others if not example.group or other.group != example.group] or others
    own = [case.facts[example.id].answer] if example.id in case.facts else []
    known_words = forms("\n".join((example.question, prefix, *own, *example.strings)))
    left = [_without(secret_forms(other, fact.answer), known_words) for other, fact in others]
    if not any(left):
        pairs = spread((*case.corpus.retain, *case.corpus.general), most)
        left = [_without(keyword_forms(pair.answer, pair.question), known_words) for pair in pairs]
    references = spread([keys for keys in left if keys], most)
    told = {forms(text) for text in texts}
    if not told or not references:
        return None
    best = [max(sum(w for form, w in keys.items() if form in said) for said in told) / sum(keys.values()) for keys in references]
    return sum(best) / len(best)


def _without(keys: Mapping[str, float], words: frozenset[str]) -> dict[str, float]:
    return {form: weight for form, weight in keys.items() if form not in words}
