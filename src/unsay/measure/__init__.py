"""Findings → numbers and verdicts."""
