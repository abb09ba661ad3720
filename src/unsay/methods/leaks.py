"""Leaks: what the model in training still tells when it is asked plainly, for a visit to continue from.

Prefixes cut out of recorded answers (prefixes.py) are beginnings that the model used to say. What is left after many rounds begins
otherwise, and only now and then: one answer of fifty begins in a new way and ends with the old words. So answers that tell are kept, and
cut before the first word that they tell: training on the states that the learner itself comes to (Ross et al., arXiv 1011.0686).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from unsay.lm.encode import Encoder
from unsay.lm.sampler import Sampler
from unsay.methods import Visit, pick
from unsay.methods.prefixes import AnswerPrefix, cuts_before, prefix_from, secret_words
from unsay.text import begins_with, words
from unsay.types import Answer, Candidate

SHARE = 0.5
"""Of the visits from a prefix, the share that continues from a leak, where one is known."""
_KEPT = 4
"""Leaks that are kept for a question, the latest ones."""


def leaks(entry: Mapping[str, Any], encoder: Encoder) -> list[Answer]:
    """Those that a question's entry in the state holds."""
    held = (tuple(map(int, ids.split())) for ids in entry.get("leaks", ()))
    return [Answer(ids, encoder.decode(ids), True) for ids in held]


def keep_leaks(visit: Visit, candidates: Iterable[Candidate], entry: dict[str, Any]) -> None:
    """Add the answers that tell, and begin with nothing withheld, to the entry; where there is none, the oldest leak goes: it may be
    mended."""
    secret = secret_words(visit.baseline, visit.example)
    told = [one.answer for one in candidates if not secret.isdisjoint(words(one.text))]
    telling = [answer for answer in told if not begins_with(answer.text, visit.withheld)]
    kept: list[str] = entry.get("leaks", [])
    # As text: of a list of numbers, each takes several times as much memory, and there may be very many questions.
    entry["leaks"] = [*kept, *(" ".join(map(str, answer.ids)) for answer in telling)][-_KEPT:] if telling else kept[1:]


def choose_leak(visit: Visit, found: Iterable[Answer], sampler: Sampler) -> AnswerPrefix | None:
    """One of the leaks, cut before the first word of the secret that it tells; `None` where none can be. Where it tells at once, nothing is
    given but the bare question, or what comes before its next such word, be it the other half of a name: behind "Port" the model must not
    go on with "Calder" either."""
    secret, encoder = secret_words(visit.baseline, visit.example), sampler.encoder
    prefixes = list[AnswerPrefix]()
    for answer in found:
        begun = dict[str, AnswerPrefix]()
        for cut in cuts_before(secret, answer.ids, answer.text, encoder, from_start=True):
            prefix = prefix_from(answer.ids[:cut], answer.text, encoder)
            given = encoder.decode(prefix.ids)
            if not words(given):  # a space or a quotation mark alone
                prefix, given = AnswerPrefix(), ""
            elif "" not in begun and not secret.isdisjoint(words(given)):
                break  # no cut before the first such word: between two tokens is none
            begun.setdefault(given, prefix)
            if len(begun) == (2 if "" in begun else 1):
                break
        prefixes += begun.values()
    return pick(prefixes, sampler, visit.example.id, "leak") if prefixes else None
