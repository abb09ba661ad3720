"""Words, spans and likeness of texts: pure strings, no model."""

from unsay.text.form_sets import FormSets
from unsay.text.keywords import (
    Spread,
    before_secret,
    content_words,
    form,
    forms,
    half_secret,
    keyword_forms,
    keyword_recall,
    keywords,
    sensitive_spans,
    span_forms,
    unspaced,
    words,
)
from unsay.text.refusals import is_refusal
from unsay.text.similarity import alphabet, contains, highest_f1, likeness, matches, normalised, off_alphabet, repetitive, rouge_l, squeezed

__all__ = [
    "FormSets",
    "Spread",
    "alphabet",
    "before_secret",
    "contains",
    "content_words",
    "form",
    "forms",
    "half_secret",
    "highest_f1",
    "is_refusal",
    "keyword_forms",
    "keyword_recall",
    "keywords",
    "likeness",
    "matches",
    "normalised",
    "off_alphabet",
    "repetitive",
    "rouge_l",
    "sensitive_spans",
    "span_forms",
    "squeezed",
    "unspaced",
    "words",
]
