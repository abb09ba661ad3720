"""Train: the loop, its step, what watches it and what resumes it."""

from unsay.train.loop import method_of, needs_untouched, train

__all__ = ["method_of", "needs_untouched", "train"]
