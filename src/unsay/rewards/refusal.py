"""Whether a candidate declines to answer, or says what the operator would like to hear instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.config import ConfigError
from unsay.config.build import share
from unsay.text import embedding, highest_f1, is_refusal, normalised
from unsay.types import Candidate, Reference

_CLOSE = 0.5
"""ROUGE-L F1 with a desired answer from which on a candidate counts as saying it."""


@dataclass(frozen=True)
class Refusal:
    """1 where the candidate is a refusal or close to one of the desired answers, else 0."""

    alike: float | None = None
    """Cosine of sentence embeddings with a desired answer from which on a candidate counts too, in any wording; needs `unsay[semantic]`."""
    needs_fluency: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.alike is not None:
            share("refusal", alike=self.alike)
            if not embedding.installed():
                raise ConfigError(f"refusal.alike cannot be used: {embedding.MISSING}")

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        texts = [candidate.text for candidate in candidates]
        # Word-for-word equality covers desired answers in scripts that ROUGE has no tokens for.
        wanted = set(map(normalised, reference.desired))
        return [
            float(is_refusal(text) or normalised(text) in wanted or (f1 is not None and f1 >= _CLOSE) or meant)
            for text, f1, meant in zip(texts, highest_f1(texts, reference.desired), self._meant(texts, reference.desired), strict=True)
        ]

    def _meant(self, texts: Sequence[str], desired: Sequence[str]) -> list[bool]:
        """Of each text: whether it says, in other words, one of the desired answers."""
        if self.alike is None or not desired:
            return [False] * len(texts)
        pairs = [(one, text) for text in texts for one in desired]  # at once: each of them is embedded once
        cosines = [0.0 if cosine is None else cosine for cosine in embedding.similarities(*zip(*pairs, strict=True))] if pairs else []
        return [max(cosines[i : i + len(desired)]) >= self.alike for i in range(0, len(cosines), len(desired))]
