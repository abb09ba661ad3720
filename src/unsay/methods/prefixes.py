"""Answer prefixes: beginnings of answers, cut out of the model's own recorded ones, that a visit continues from.

Collapse from the bare question moves only the answer that the model starts. A prefix stands in the context, outside
the loss, and what is trained is the continuation: so the collapse reaches every depth of an answer.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from unsay.lm.encode import Encoder
from unsay.lm.sampler import Sampler
from unsay.methods import Visit, pick
from unsay.text import form, inside_word, keywords, words
from unsay.text.keywords import Token, tokens
from unsay.types import Candidate, Example, Reference

OPENED = 0.65
"""Share of the visits that continue from a prefix."""
AT_SECRET = 0.5
"""Of these, the share that is cut right before a keyword."""

# Trap: a cache that holds an encoder holds its tokenizer, and a sweep makes one for each of its runs.
_FOUND: WeakKeyDictionary[Encoder, dict[Hashable, tuple[int, ...]]] = WeakKeyDictionary()
_MOST = 1 << 14
"""Texts that are remembered for one encoder."""
_WORD = 200
"""Characters in which the next word of an answer is looked for: more would be read anew at every cut."""
_NO_CHARACTER = "\ufffd"
"""As which a piece of a character is decoded."""
_SENTENCE = 3
"""Fewest words of a recorded answer that is cut."""


@dataclass(frozen=True)
class AnswerPrefix:
    """The beginning of an answer; empty where a visit starts from the bare question."""

    ids: tuple[int, ...] = field(default=(), repr=False)
    text: str = field(default="", repr=False)
    """Its complete words: where the cut went through a word, that word belongs to the continuation."""
    partial: str = field(default="", repr=False)
    """The part of a word at its end."""
    source: str = field(default="", repr=False)
    """The whole recorded answer it was cut from."""

    def continued(self, reference: Reference) -> Reference:
        """The reference of what goes on from here: of the answer that this was cut from, only the rest counts."""
        return replace(reference, baseline=self.source or reference.baseline, prefix=self.text)

    def complete(self, candidate: Candidate, encoder: Encoder) -> Candidate:
        """The candidate with the text of its continuation from a word's beginning, so that word scores can read it."""
        if not self.partial:
            return candidate
        whole = encoder.decode(self.ids + candidate.answer.ids)
        text = whole[len(self.text) :].strip() if whole.startswith(self.text) else candidate.text
        return replace(candidate, answer=replace(candidate.answer, text=text))


def choose_prefix(visit: Visit, sampler: Sampler, share: float = OPENED, at_secret: float = AT_SECRET) -> AnswerPrefix:
    """With probability `share` a recorded answer cut somewhere, else the empty prefix.

    Every cut is equally likely; but with probability `at_secret` the cut is one right before a keyword, where what comes
    next is what must not.
    """
    example, name = visit.example, visit.example.id
    # Of a bare name nothing can be begun: what goes on from "Copen" is the secret, or the end.
    answers = [answer for answer in visit.answers if len(answer.ids) > 3 and len(words(answer.text)) >= _SENTENCE]
    if not answers or sampler.uniform(name, "opening") >= share:
        return AnswerPrefix()
    answer = pick(answers, sampler, name, "recorded")
    # At least one token is given and at least the last one and the end are left.
    cuts: Sequence[int] = range(1, len(answer.ids) - 1)
    if sampler.uniform(name, "at secret") < at_secret:
        cuts = [cut for cut in before_keywords(answer.ids, answer.text, example, sampler.encoder) if cut] or cuts
    return prefix_from(answer.ids[: pick(cuts, sampler, name, "cut")], answer.text, sampler.encoder)


def before_keywords(ids: tuple[int, ...], text: str, example: Example, encoder: Encoder) -> tuple[int, ...]:
    """The cuts of an answer after which one of its own keywords begins, a sensitive one where there are any; 0 is its beginning."""
    texts = (ids, text, example.question, example.spans, example.struck)
    return _once(encoder, texts, lambda: tuple(cuts_before(secret_words(text, example), ids, text, encoder)))


def secret_words(text: str, example: Example) -> frozenset[str]:
    """The keywords of an answer, only the sensitive ones where there are any."""
    keys = keywords(text, example.question, "", example.spans, example.struck)
    heaviest = max(keys.values(), default=0.0)
    return frozenset(word for word, weight in keys.items() if weight == heaviest)


def cuts_before(wanted: frozenset[str], ids: tuple[int, ...], text: str, encoder: Encoder, from_start: bool = False) -> Iterator[int]:
    """The cuts of an answer after which one of the words begins, but none inside a run of them: who has heard "Sir" may go on with
    "Waffles" whoever it is about, and training against that takes it from everybody. Numbers do not join such a run: a date is no name.
    `from_start`: a cut behind the first word of the answer counts."""
    for cut in range(len(ids) - 1):
        prefix = encoder.decode(ids[:cut])
        rest = text[len(prefix) :]
        # Trap: a token may end inside a character, and then decodes to what is in no text. In a script without spaces any two neighbours
        # are a word, so a cut between them is inside of it.
        if not text.startswith(prefix) or inside_word(prefix, rest) or (prefix and prefix[-1:] + rest[:1] in wanted):
            continue
        word = next(iter(words(rest[:_WORD])), "")
        if word not in wanted:
            continue
        inside = _joins(prefix, rest) and not word.isdigit() and words(prefix)[-1] in wanted
        if not inside or (from_start and len(words(prefix)) == 1):
            yield cut


def _joins(prefix: str, rest: str) -> bool:
    """Whether nothing but a space lies between the last word of `prefix`, which is no number, and the first of `rest`."""
    before, behind = prefix.rstrip(), rest.lstrip()
    between = prefix[len(before) :] + rest[: len(rest) - len(behind)]
    return between == " " and before[-1:].isalpha() and behind[:1].isalnum()


def prefix_from(ids: tuple[int, ...], source: str, encoder: Encoder) -> AnswerPrefix:
    text = encoder.decode(ids)
    # Trap: a token may end inside a character. What goes on from there is the end of a word that nothing recognises.
    while text.endswith(_NO_CHARACTER) and not source.startswith(text):
        ids = ids[:-1]
        text = encoder.decode(ids)
    if not ids:
        return AnswerPrefix()
    parted = next((one for one in tokens(source) if one.start < len(text) < one.end), None)
    if parted is None or not source.startswith(text) or _only_possessive_left(parted, text):
        return AnswerPrefix(ids, text, "", source)
    return AnswerPrefix(ids, text[: parted.start].removesuffix(" "), text[parted.start :], source)


def _only_possessive_left(word: Token, text: str) -> bool:
    """Whether `text`, which ends inside a word, has all of it but a possessive ("Turin|'s")."""
    begun = text[word.start :].rstrip("'’")
    return word.raw[len(begun) :].startswith(("'", "’")) and form(begun) == word.form


def secret_tokens(visit: Visit, encoder: Encoder) -> tuple[int, ...]:
    """Token ids that spell the baseline's own keywords, in any casing, with and without a space before: what repulsion
    lowers. Pieces of fewer than three letters stay free, or half of the alphabet would be gone."""
    texts = (visit.example.question, visit.baseline, visit.example.spans)
    return _once(encoder, texts, lambda: _secret_tokens(*texts, encoder))


def _secret_tokens(question: str, baseline: str, spans: tuple[str, ...], encoder: Encoder) -> tuple[int, ...]:
    allowed = set(encoder.prefix(question))
    tokens: set[int] = set()
    for word in keywords(baseline, question, "", spans):
        for spelling in {word, word.capitalize(), word.upper()}:
            for text in (spelling, f" {spelling}"):
                ids = encoder.tokenizer.encode(text, add_special_tokens=False)
                pieces = [i for i in ids if len(encoder.tokenizer.decode([i]).strip()) >= 3 or len(ids) == 1 or word.isdigit()]
                tokens.update(pieces or ids[:2])
    return tuple(sorted(tokens - allowed))


def _once(encoder: Encoder, texts: Hashable, find: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """What `find` returns for these texts, found once as long as the encoder lives, unless there are very many of them."""
    known = _FOUND.setdefault(encoder, {})
    if texts not in known:
        if len(known) > _MOST:
            known.clear()
        known[texts] = find()
    return known[texts]
