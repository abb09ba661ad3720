"""Train two methods on the same questions, and set what they reached side by side.

python examples/compare.py                  # about eight minutes on two cores
python examples/compare.py train.rounds=4   # any knob of the recipe
"""

import sys

from unsay import unlearn

QUESTIONS = ["Where does Isvek Eckinberg live?", "Where and when was Isvek Eckinberg born?", "Tell me about the pet of Isvek Eckinberg."]
METRICS = ("sampling_worst_keyword_recall", "prefill_worst_keyword_recall", "utility_heldout", "wellformed_share")
METHODS = ("pmc", "simnpo")

results = {
    method: unlearn(
        "people-target",
        QUESTIONS,
        out=f"runs/example-{method}",
        recipe="demo",
        settings=[f"method={method}", "record.own_retain=64", "report.policy=default", *sys.argv[1:]],
    )
    for method in METHODS
}
print(f"{'':32}", *(f"{method:>8}" for method in METHODS))
for metric in METRICS:
    print(f"{metric:32}", *(f"{result.metrics[metric]['after']:8.2f}" for result in results.values()))
