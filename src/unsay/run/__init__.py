"""Run: the stages in order, each restartable."""

from unsay.run.audits import auditable, case, reference_judge, retain_model_name, run_alone, run_audit, run_endpoint
from unsay.run.changes import rescored, run_averaging, run_retain_model
from unsay.run.watchers import Watchers
from unsay.run.whole import check, open_folder, run, run_finetune, run_record, run_report, run_standalone, run_train

__all__ = [
    "Watchers",
    "auditable",
    "case",
    "check",
    "open_folder",
    "reference_judge",
    "rescored",
    "retain_model_name",
    "run",
    "run_alone",
    "run_audit",
    "run_averaging",
    "run_endpoint",
    "run_finetune",
    "run_record",
    "run_report",
    "run_retain_model",
    "run_standalone",
    "run_train",
]
