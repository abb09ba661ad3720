"""What to do about a failed line of a policy, and what that is likely to cost.

Read from the line and from what its metric declares (heading, direction, probe), so that a probe of a plugin gets its step too.
"""

from collections.abc import Iterable

from unsay.measure.summary import metrics
from unsay.measure.verdict import LineResult
from unsay.metric import ANSWERS, COMES_BACK, COST, FEWER_BITS, HIDDEN, HIGHER

_AGAIN = "unsay audit RUN --which after"
KEEP_MORE = (
    "Train again with more rows of what should stay (`files.retain`, `record.own_retain`), or at half the rate (`train.learning_rate`) "
    "for more rounds; takes longer, and forgets more slowly. Or, if no line about secrets fails, move the weights part of the way "
    "back: `unsay train RUN --averaging 0.85`; takes minutes, and a little of the secret may return. Or train again with "
    '`train.retain_loss = "kl"`, `train.state_weight = 3` and `train.shared_rows = 2`; takes half as long again.'
)
KEEP_TEXT = (
    "Run again, in another folder, with more texts that the model writes unasked (`record.prose`; 400 made training a seventh longer), "
    "or at half the rate (`train.learning_rate`) for more rounds. Or, if no line about secrets fails, move the weights part of the way "
    "back: `unsay train RUN --averaging 0.85`; takes minutes, and a little of the secret may return."
)
FORGET_MORE = (
    "Where little is missing, move the weights a tenth further than training did: `unsay train RUN --averaging 1.1`; takes minutes, and "
    "usually costs less than a point of utility. Else train again for half as many rounds more (`train.rounds`; where training ended "
    "because it was enough, a larger `watch.enough`), or, where it is still told by default, at three times the rate "
    "(`train.learning_rate`); takes half as long again, and usually costs some points of utility. `unsay look RUN` shows what still "
    "comes out."
)
THESE_QUESTIONS = (
    "See them with `unsay look RUN`, let `unsay prompt-search` find the wordings that open them, add those as questions, and train "
    "again; takes longer with each question, and costs some utility close to them."
)
IN_THE_WEIGHTS = (
    "No dial is known to remove this reliably. More rounds (`train.rounds`) may help a little and cost utility. Or keep the weights "
    "to yourself: serve the model, audit the endpoint, and judge by a policy without this line."
)
OTHER_RETAIN_MODEL = (
    "Name another model that never knew (`model.retain_model`; `finetune` trains one); takes one fine-tuning and an audit. Or judge by "
    "limits without one: `--policy default`."
)
STRICTER_TARGETS = (
    'Train again with a method that filters what it trains on (`pmc.preset = "guarded"`, a lower `pmc.max_leak`), and for more rounds '
    "if questions got no target; takes longer, and costs nothing that is measured."
)
UNLEARN = "This model was audited, not trained: unlearn these questions with `unsay record`, `train` and `audit`; costs some utility."


def next_step(line: LineResult, alone: bool = False) -> str:
    """One remedy with its likely cost, in a sentence or two; empty for a line that passed. `alone`: nothing was trained here.

    >>> next_step(LineResult("utility", "utility", "≥ before * 0.97", 80.0, 97.0, False)) == KEEP_MORE
    True
    """
    if line.passed:
        return ""
    one = metrics().get(line.metric)
    if line.name == "made for":
        return f"Ask again as the policy wants it: `unsay audit RUN --set {line.metric}=…`; takes time, and trains nothing."
    if line.name == "retain model leaks" or (line.value is not None and line.limit is None and "retain_model" in line.rule):
        return OTHER_RETAIN_MODEL
    if line.value is None or line.detail.startswith("unscored"):
        probe = f" with `{one.probe}` among `audit.probes`, and enough questions and answers" if one else ""
        if line.metric == "drift_text_kept":
            return f"Audit before and after again{probe}, both on the same text (one `UNSAY_DATA`); takes minutes, and trains nothing."
        return f"Audit again{probe}: `{_AGAIN}`; takes time, and trains nothing."
    if line.metric.startswith("exposure."):
        return STRICTER_TARGETS
    if one and one.better == HIGHER and one.group in (COST, ANSWERS):
        return KEEP_TEXT if one.probe == "drift" else KEEP_MORE
    if alone:
        return UNLEARN
    if one and one.group in (COMES_BACK, FEWER_BITS, HIDDEN):
        return IN_THE_WEIGHTS
    return THESE_QUESTIONS if line.questions else FORGET_MORE


def by_step(failed: Iterable[LineResult], alone: bool) -> dict[str, list[LineResult]]:
    """Each remedy once, with the lines that it is for, in their order."""
    found: dict[str, list[LineResult]] = {}
    for line in failed:
        found.setdefault(next_step(line, alone), []).append(line)
    return found
