"""Audit: a model and probes → findings; endpoints, the answer cache, audits that stand alone."""

from unsay.audit.kept import answers as kept_answers
from unsay.audit.stage import case, probes_of, run, write

__all__ = ["case", "kept_answers", "probes_of", "run", "write"]
