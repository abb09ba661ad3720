"""Gate: a run folder and a policy → passed or not, line by line; the verdict a build script asks for.

The numbers are read anew from the findings, so no old report matters. It loads no model and never opens the vault.
"""

from collections.abc import Sequence
from typing import NamedTuple

from unsay.config import ConfigError
from unsay.measure import policy, verdict
from unsay.report import steps
from unsay.report.evidence import Evidence, audited_folder, read, same_as_audited
from unsay.store.folder import RunFolder


class Verdict(NamedTuple):
    name: str
    lines: Sequence[verdict.LineResult]
    unjudged: str
    alone: bool = False
    """Whether the model was audited only, and nothing trained."""

    @property
    def passed(self) -> bool:
        return verdict.passed(self.lines)

    @property
    def failed(self) -> list[verdict.LineResult]:
        return [line for line in self.lines if not line.passed]

    def steps(self) -> dict[str, list[verdict.LineResult]]:
        """What to do next, each with the failed lines that it is for."""
        return steps.by_step(self.failed, self.alone)


def evidence(folder: RunFolder, policy_name: str) -> Evidence:
    """What a run's audits found, under a policy (an empty name: none). Raises `ConfigError` where they cannot be read."""
    try:
        return read(folder, policy_name)
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        # The message of the error may quote what stands in the file.
        raise ConfigError(f"the findings in {folder.audit_file('after').parent} cannot be read; audit again") from None


def judge(folder: RunFolder, name: str | None = None, weights: bool = True) -> Verdict:
    """The model after unlearning (of an audit that stands alone: the audited one) under a policy, by default the recipe's.

    `weights`: the model must be here, to be held against its audit. Raises `ConfigError` where there is nothing to judge: no run
    folder, no policy, no audit, findings that cannot be read, a checkpoint that is not here or changed after its audit.
    """
    chosen = folder.recipe(texts=False).report.policy if name is None else name
    if not chosen:
        raise ConfigError(f"the recipe of {folder.path} names no policy; name one: --policy {policy.shipped()[0]}, or a file of yours")
    policy.load(chosen)
    if not folder.audit_file("after").exists():
        raise ConfigError(f"{folder.path} has no audit of the model after unlearning; run `unsay audit {folder.path}` first")
    found = evidence(folder, chosen)
    if same_as_audited(folder, found) is False and weights:
        raise ConfigError(
            f"the model that was audited is not in {audited_folder(folder, found)}, so nobody can say which model these findings are "
            "about; put it back, or judge the findings of a run that you received without its model: --without-weights"
        )
    if not found.findings["after"]:
        raise ConfigError(f"{folder.audit_file('after')} is empty; run `unsay audit {folder.path}` again")
    if not found.results:
        raise ConfigError(f"no line of the policy {chosen!r} applies to {folder.path}, and nothing judged is nothing passed")
    return Verdict(chosen, found.results, found.unjudged, found.manifest.alone is not None)


def said(line: verdict.LineResult) -> str:
    """A line with the number that was measured and the limit, as in `sampling: 0.824, but must be ≤ 0.15`.

    >>> said(verdict.LineResult("sampling", "m", "≤ retain_model + 0.05", 0.824, 0.1, False))
    'sampling: 0.824, but must be ≤ retain_model + 0.05 = 0.1 (m)'
    """
    # Four digits: two would show a limit as kept that was missed by little.
    value = line.word if line.value is None else f"{line.value:.4g}"
    derived = f" = {line.limit:.4g}" if line.limit is not None and line.derived else ""
    rule = f"hold chance{derived}" if line.rule == "holds chance" else f"be {line.rule}{derived}"
    detail = f"; {line.detail}" if line.detail else ""
    return f"{line.name}: {value}, {'and' if line.passed else 'but'} must {rule} ({line.metric}{detail})"
