"""Audit: a model and probes → findings; endpoints, the answer cache, audits that stand alone."""

from unsay.audit.stage import case, probes_of, run, write

__all__ = ["case", "probes_of", "run", "write"]
