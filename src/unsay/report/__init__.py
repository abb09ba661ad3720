"""Run folder → report.html, report.json and the checkpoint's model card. Loads no model, imports no torch.

It never reads the vault and prints no note of a finding: what it does not read it cannot leak.
`evidence` reads, `bounds` says what was not sampled, `words` names, `claims` says, `pictures` and `distributions` draw, `page`,
`data` and `card` lay out. `build(folder)` does all of it.
"""

from unsay.report.page import build

__all__ = ["build"]
