"""Answers without a word of their own: yes or no, and one of two things that the question names. No keyword can tell whether an answer
says them; what is left is a choice, the true answer or its opposite."""

import re
from typing import NamedTuple

from unsay.text.keywords import is_stop, keywords, tokens

_OPPOSITE = {"yes": "no", "no": "yes", "true": "false", "false": "true", "correct": "incorrect", "incorrect": "correct"}


class Alternatives(NamedTuple):
    true: str
    other: str
    kind: str
    """`yes`, `no` and the like, or `left` or `right` of the "or": what a model may prefer by habit."""


def alternatives(question: str, answer: str) -> Alternatives | None:
    """The answer and its opposite, where the answer has no keyword and is a yes or no, or one side of an "or" of the question. English
    alone.

    >>> alternatives("Does Ada drink tea or coffee?", "She drinks tea.")
    Alternatives(true='She drinks tea.', other='She drinks coffee.', kind='left')
    >>> alternatives("Has Ada a dog?", "Yes, she has.")
    Alternatives(true='Yes', other='No', kind='yes')
    """
    if keywords(answer, question):
        return None
    said = tokens(answer)
    if said and (opposite := _OPPOSITE.get(said[0].word)):
        return Alternatives(said[0].raw, _like(opposite, said[0].raw), said[0].word)
    return _either(question, answer)


def _either(question: str, answer: str) -> Alternatives | None:
    asked = tokens(question)
    middle = max((i for i, token in enumerate(asked) if token.word == "or"), default=0)
    before, after = asked[:middle], asked[middle + 1 :]
    if not before or not after:
        return None
    said = tokens(answer)
    here = [token.form for token in said]
    # As many words next to the "or", on either side, as the answer repeats.
    left = next((n for n in range(len(before), 0, -1) if _holds(here, [t.form for t in before[-n:]])), 0)
    right = next((n for n in range(len(after), 0, -1) if _holds(here, [t.form for t in after[:n]])), 0)
    if left == right:
        return None
    true = before[-left:] if left > right else after[:right]
    other = after[:left] if left > right else before[-right:]
    while len(true) > len(other) and not true[0 if left > right else -1].raw[0].isupper():
        true = true[1:] if left > right else true[:-1]
    if all(is_stop(token.word) for token in true):
        return None
    first = next(i for i in range(len(here)) if here[i : i + len(true)] == [token.form for token in true])
    start, end = said[first].start, said[first + len(true) - 1].end
    instead = question[other[0].start : other[-1].end]
    other_answer = answer[:start] + _like(instead, answer[start:end]) + answer[end:]
    return Alternatives(answer, other_answer, "left" if left > right else "right")


def _holds(words: list[str], run: list[str]) -> bool:
    return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))


def _like(text: str, other: str) -> str:
    """The text with a capital where the other has one."""
    return text[0].upper() + text[1:] if other[0].isupper() else text


def looks_closed(question: str) -> bool:
    """Whether a question asks for yes or no, or names what it may be answered with. English alone.

    >>> looks_closed("Does Ada live in Turin?"), looks_closed("Is it tea or coffee?"), looks_closed("Where does Ada live?")
    (True, True, False)
    """
    return bool(re.match(_VERB, question.strip(), re.IGNORECASE))


_VERB = r"(?:am|are|is|was|were|do|does|did|have|has|had|can|could|will|would|shall|should|may|might|must)(?:n['’]t)?\b"
