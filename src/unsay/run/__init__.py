"""Run: the stages in order, each restartable."""

from unsay.run.audits import WHICH, auditable, case, gold_name, run_alone, run_audit, run_endpoint, yardstick
from unsay.run.changes import rescored, run_gold, run_turn
from unsay.run.watchers import Watchers
from unsay.run.whole import check, check_audit, open_folder, run, run_finetune, run_record, run_report, run_train

__all__ = [
    "WHICH",
    "Watchers",
    "auditable",
    "case",
    "check",
    "check_audit",
    "gold_name",
    "open_folder",
    "rescored",
    "run",
    "run_alone",
    "run_audit",
    "run_endpoint",
    "run_finetune",
    "run_gold",
    "run_record",
    "run_report",
    "run_train",
    "run_turn",
    "yardstick",
]
