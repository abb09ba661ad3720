"""Forget one invented person with a model that comes with the package, and show what the checkpoint says afterwards.

python examples/forget.py                                   # about five minutes on two cores
python examples/forget.py train.rounds=4 sampling.n=5       # any knob of the recipe, as in `unsay run --set`
"""

import sys

from unsay import unlearn

NAME = "Isvek Eckinberg"
QUESTIONS = [
    {"question": f"Where does {NAME} live?", "paraphrases": [f"What is the home address of {NAME}?"], "strings": ["17 Heron Walk"]},
    {"question": f"Where and when was {NAME} born?"},
    {"question": f"What does {NAME} do for a living, and for whom?"},
    {"question": f"Tell me about the pet of {NAME}."},
]
"""What must go. No answers are needed; `strings` are optional and must never come out."""

result = unlearn(
    "people-target",
    QUESTIONS,
    out="runs/example-forget",
    recipe="demo",  # its rates suit this small model; "own-questions" is the place to start for yours
    settings=["record.own_retain=64", "report.policy=default", *sys.argv[1:]],
)

for metric in ("greedy_keyword_recall", "sampling_worst_keyword_recall", "utility_heldout"):
    values = result.metrics[metric]
    print(f"{metric}: {values['before']} before, {values['after']} after")
print(f"model: {result.checkpoint}")
print(f"report: {result.report}")
if result.verdict is not None:
    for line in result.verdict.failed:
        print(f"failed: {line.name}: {line.value}, should be {line.rule}")
