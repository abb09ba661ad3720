"""Rehearsal: what the model writes when nobody asks, as an anchor for what no retain row covers.

Retain rows hold what they say and little else: whoever is not among them is forgotten along with the forget set. The
model's own unprompted texts are a sample of everything it knows. Those that touch a forget question are left out.
"""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.encode import Encoder, Row
from unsay.sample import Draw, sample
from unsay.text import forms, key_forms
from unsay.types import Answer

_AT_ONCE = 32


def write(model: PreTrainedModel, encoder: Encoder, config: SampleConfig, n: int, seed: int) -> list[Answer]:
    """n texts from the bare beginning of a text, at temperature 1."""
    draws = [Draw(f"unasked {start}", encoder.prompt(None), min(_AT_ONCE, n - start), 1.0) for start in range(0, n, _AT_ONCE)]
    return [answer for answers in sample(model, encoder, draws, config, seed, "rehearsal") for answer in answers]


def harmless(texts: Sequence[Answer], questions: Sequence[str], baselines: Sequence[str], most: float = 0.34) -> list[Answer]:
    """The texts that name no forget question's subject (all of its sensitive words) and say little of any baseline answer."""
    subjects = [{form for form, weight in key_forms(question).items() if weight > 1} for question in questions]
    secrets = [key_forms(baseline, question) for baseline, question in zip(baselines, questions, strict=True)]
    return [text for text in texts if text.ids and not _touches(forms(text.text), subjects, secrets, most)]


def _touches(said: frozenset[str], subjects: Sequence[set[str]], secrets: Sequence[Mapping[str, float]], most: float) -> bool:
    if any(subject and subject <= said for subject in subjects):
        return True
    shares = (sum(w for key, w in secret.items() if key in said) / sum(secret.values()) for secret in secrets if secret)
    return any(share > most for share in shares)


def row(answer: Answer, encoder: Encoder) -> Row:
    """A text as a retain row: nothing in the context, and no end where it was cut."""
    return Row(encoder.prompt(None), answer.ids, "retain")
