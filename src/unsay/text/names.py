"""Names in questions: what a question is about, and the same question about somebody else."""

import re

from unsay.text.keywords import is_stop, sensitive_spans


def subject(question: str) -> str:
    """What a question is about: its longest sensitive span; empty where it has none."""
    return max(sensitive_spans(question), key=len, default="")


def swapped(text: str, old: str, new: str) -> str:
    """The text about `new` where it was about `old`: whole occurrences, then the first word of the one for that of the other, and
    the last for the last.

    >>> swapped("Where did Ada Example live, and did Ada paint?", "Ada Example", "Zoe Miller")
    'Where did Zoe Miller live, and did Zoe paint?'
    """
    was, becomes = old.split(), new.split()
    ends = ((was[0], becomes[0]), (was[-1], becomes[-1])) if len(was) > 1 else ()
    pairs = {old: new} | {word: other for word, other in ends if not is_stop(word.lower())}
    pattern = "|".join(re.escape(word) for word in sorted(pairs, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: pairs[found.group()], text)
