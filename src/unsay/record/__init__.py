"""Record: corpus and model → the run folder, with the answers of the model as it was."""

from unsay.record.stage import expected_answers, record, source, start

__all__ = ["expected_answers", "record", "source", "start"]
