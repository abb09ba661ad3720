"""Verbatim overlap, for texts whose wording is the secret (copyrighted ones): the longest run and shared n-grams. Pure strings.

Compared are `words` in order, case and punctuation aside: of any script, those without spaces as overlapping pairs of characters. Nothing
is stemmed, and words of the question count: a run is a run.
"""

from collections import Counter

from unsay.text import words
from unsay.text.similarity import spelled


def longest_run(reference: str, answer: str) -> float | None:
    """Share of the reference's words in its longest run that stands in the answer word for word; `None` without a word.

    >>> longest_run("the old lighthouse at the cape", "She saw the old lighthouse, the cape.")
    0.5
    """
    wanted, given = spelled(words(reference), words(answer))
    if not wanted:
        return None
    longest = 0
    for end in range(1, len(wanted) + 1):
        # The longest run grows by one word at a time, so one look per end of it is enough.
        longest += wanted[end - longest - 1 : end] in given
    return longest / len(wanted)


def ngram_overlap(reference: str, answer: str) -> float | None:
    """Share of the reference's runs of four words that the answer has, each as often as it has it: ROUGE-4 recall (Lin 2004).

    A reference of fewer words is one run; `None` where it has no word.

    >>> ngram_overlap("the old lighthouse at the cape", "It was the old lighthouse at the shore.")
    0.6666666666666666
    """
    from nltk.util import ngrams

    wanted, given = words(reference), words(answer)
    if not wanted:
        return None
    n = min(4, len(wanted))
    grams = Counter(ngrams(wanted, n))
    return (grams & Counter(ngrams(given, n))).total() / grams.total()
