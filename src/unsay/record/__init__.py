"""Record: corpus and model → the run folder, with the answers of the model as it was."""

from unsay.record.stage import record, source, start

__all__ = ["record", "source", "start"]
