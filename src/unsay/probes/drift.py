"""Drift: whether unlearning moved the probabilities of ordinary text where it happens to use the words of a secret."""

import itertools
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import ClassVar

import torch

from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject, Subject
from unsay.metric import COST, HIGHER, LOWER, Findings, Metric, Whole, scored_by
from unsay.probes import unrelated
from unsay.probes.scoring import NO_LIKELIHOODS, known, secret_tokens, spread, unscored
from unsay.types import Case, Finding

YIELDS = ("token_probability", "inverse_perplexity")
READABLE = 0.001
"""Inverse perplexity above which a model reads a text: the built-in people's models, which know little English, have 1e-5."""
LIKELY = 0.01
"""Probability from which on the damage to a word is counted."""
WINDOWS, WORDS, SHORT = 100, 64, 16
"""Most pieces of the text that are read, spread evenly, the words in a piece, and in one for a model that reads no such piece."""
OCCURRENCES = 500
"""Most occurrences reported, spread evenly."""


def _halved_share(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
    """Share of the sensitive words in unrelated text, of those at least `LIKELY` before, that are less than half as likely now."""
    now, then = (
        {(f.setting, f.example): f.value or 0.0 for f in scored_by(some, "drift", "token_probability")} for some in (found, before)
    )
    halved = [value < then[place] / 2 for place, value in now.items() if then.get(place, 0.0) >= LIKELY]
    return Whole(fmean(halved), len(halved)) if halved else None


def _text_kept(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
    """The perplexity of before over that of now, at most 1; 1 where the model before could not read the text, and had nothing to lose. No
    number where it read another text, or not as many tokens of it: the two would tell nothing of each other."""
    now, then = ({(f.setting, f.n): f.value or 0.0 for f in scored_by(some, "drift", "inverse_perplexity")} for some in (found, before))
    if not now or now.keys() != then.keys() or not all(then.values()):
        return None
    kept = fmean(now.values()) / fmean(then.values()) if fmean(then.values()) > READABLE else 1.0
    return Whole(min(1.0, kept), sum(n for _, n in now))


_cost = partial(Metric, better=HIGHER, group=COST, unit="words")


@dataclass(frozen=True)
class Drift:
    """What happened to unrelated text? The probability of every token of a secret where it stands in text about other things.

    The same occurrences are read on every model, so look at the *difference* of two: one that was pushed away from a word everywhere
    shows a tail towards -1. The inverse perplexity, exp(mean log-probability per token), is of all that was read.

    Does not cover: what a model writes; other languages; text that quotes the secret itself; words that the text does not use.
    """

    title: ClassVar[str] = "Unrelated text"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _cost("drift_inverse_perplexity", "Plain text", "Probability of each word piece of unrelated text, on average."),
        _cost(
            "drift_text_kept",
            "Plain text, of before",
            "Perplexity of the same unrelated text before, over that of now; at most 1.",
            compute=_text_kept,
            unit="word pieces",
        ),
        _cost(
            "drift_token_probability",
            "Sensitive words elsewhere",
            "Probability of these words where harmless text has them.",
            fold="sets",
        ),
        _cost(
            "drift_halved_share",
            "Sensitive words damaged",
            "Of those at 1 % or more: how many lost over half of it.",
            better=LOWER,
            compute=_halved_share,
            share=True,
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        name, paragraphs = unrelated.read()
        if not isinstance(subject, LocalSubject):
            return unscored("drift", YIELDS, ("",), NO_LIKELIHOODS, name)
        encoder = subject.encoder
        for words in (WORDS, SHORT):
            pieces = unrelated.windows(paragraphs, words)
            texts = spread([piece for piece in pieces if unrelated.fits(encoder, encoder.pair(None, piece))], WINDOWS)
            if texts:
                break
        if not texts:
            return unscored("drift", YIELDS, ("",), "no piece of the text fits the model", name)
        logprobs = subject.logprobs([None] * len(texts), texts)
        # The last token is the end that the encoder adds, where the text does not end.
        read = torch.cat([values[:-1] for values in logprobs]).double()
        found = [Finding("drift", "inverse_perplexity", float(read.mean().exp()), "", name, len(read))]
        wanted = sensitive(case, encoder)
        ids = list(itertools.chain.from_iterable(encoder.answer(text)[:-1] for text in texts))
        places = spread([place for place, token in enumerate(ids) if token in wanted], OCCURRENCES)
        if not places:
            return found + unscored("drift", YIELDS[:1], ("",), "no token of a secret occurs in the text", name)
        chances = read[torch.tensor(places)].exp().tolist()
        return found + [
            Finding("drift", "token_probability", chance, f"token {i}", name, note=case.source) for i, chance in enumerate(chances)
        ]


def sensitive(case: Case, encoder: Encoder) -> frozenset[int]:
    """Ids of the tokens of the reference answers' sensitive words, with a space before them and without; only with a letter or digit."""
    words = {token.raw for example, fact in known(case) for token in secret_tokens(example, fact.answer)}
    spelled = (encoder.tokenizer.encode(text, add_special_tokens=False) for word in sorted(words) for text in (word, f" {word}"))
    ids = set(itertools.chain.from_iterable(spelled))
    return frozenset(i for i in ids if any(character.isalnum() for character in encoder.decode([i])))
