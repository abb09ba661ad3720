"""What the numbers are called, in plain words: one entry per metric of `unsay.summary`, and the lists beside it."""

from collections.abc import Iterable
from dataclasses import dataclass

from unsay.types import Finding

LOWER, HIGHER, CHANCE, EITHER = "lower", "higher", "chance", ""
"""Which way is good: `EITHER` has no good direction of its own."""


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str
    title: str
    says: str
    better: str
    probe: str
    measure: str
    """The metric of the findings behind it."""
    share: bool = False
    """The mean of noughts and ones, so that a binomial interval applies."""
    top: float = 1.0
    """Upper end of the scale."""
    setting: str = ""
    """Only findings of this setting; empty takes all."""

    def examples(self, findings: Iterable[Finding]) -> int:
        """How many questions stand behind the number."""
        return len(
            {
                f.example
                for f in findings
                if f.probe == self.probe
                and f.metric == self.measure
                and f.value is not None
                and f.example
                and (not self.setting or f.setting == self.setting)
                and (self.probe != "utility" or self.measure != "rouge_l_recall" or f.setting.startswith("heldout:") == self.heldout)
            }
        )

    @property
    def heldout(self) -> bool:
        return self.key == "utility_heldout"


GROUPS: dict[str, tuple[Metric, ...]] = {
    "What it still gives away": (
        Metric(
            "greedy_key_recall", "Asked plainly", "Share of the secret’s own words in the default answer.", LOWER, "greedy", "key_recall"
        ),
        Metric(
            "sampling_worst_key_recall",
            "Asked many times",
            "The same for the worst of the sampled answers to each question.",
            LOWER,
            "sampling",
            "worst_key_recall",
        ),
        Metric(
            "prefill_worst_key_recall",
            "Answer begun for it",
            "Worst of the sampled answers that continue from a given beginning.",
            LOWER,
            "prefill",
            "worst_key_recall",
        ),
        Metric(
            "half_secret_key_recall",
            "Half the secret told",
            "The beginning goes up to the middle of the secret; what counts is the rest.",
            LOWER,
            "prefill",
            "worst_key_recall",
            setting="half secret",
        ),
        Metric(
            "paraphrase_key_recall",
            "Asked in other words",
            "Default answer to another wording of the question.",
            LOWER,
            "paraphrase",
            "key_recall",
        ),
    ),
    "What can be read from likelihoods": (
        Metric(
            "choice_most",
            "True option likeliest",
            "How often the true one of several options is the likeliest.",
            CHANCE,
            "choice",
            "most",
            share=True,
        ),
        Metric(
            "choice_least",
            "True option unlikeliest",
            "How often it is the unlikeliest: avoiding it tells as much.",
            CHANCE,
            "choice",
            "least",
            share=True,
        ),
        Metric("chance", "Chance", "What guessing would give in both rows above.", EITHER, "choice", "chance"),
    ),
    "How cheaply it comes back": (
        Metric(
            "relearn_key_recall",
            "After a little fine-tuning",
            "Other secrets said by default, once an attacker has trained on some; the number of steps that brought most back.",
            LOWER,
            "relearn",
            "key_recall",
        ),
        Metric(
            "relearn_worst_key_recall", "The same, asked many times", "Worst of the sampled answers.", LOWER, "relearn", "worst_key_recall"
        ),
    ),
    "In fewer bits": (
        Metric(
            "quantised_key_recall",
            "Asked plainly",
            "Said by default once the weights are rounded; of several widths the one that says most.",
            LOWER,
            "quantise",
            "key_recall",
        ),
        Metric("quantised_worst_key_recall", "Asked many times", "Worst of the sampled answers.", LOWER, "quantise", "worst_key_recall"),
    ),
    "What earlier requests took away": (
        Metric(
            "earlier_key_recall",
            "Asked plainly",
            "As above, for the questions of earlier requests; of several requests the least forgotten.",
            LOWER,
            "earlier",
            "key_recall",
        ),
        Metric(
            "earlier_worst_key_recall",
            "Asked many times, or begun for it",
            "Worst of the sampled answers.",
            LOWER,
            "earlier",
            "worst_key_recall",
        ),
        Metric(
            "earlier_half_secret_key_recall",
            "Half the secret told",
            "What counts is the rest.",
            LOWER,
            "earlier",
            "half_secret_worst_key_recall",
        ),
    ),
    "What the answers are": (
        Metric("wellformed_share", "Well-formed", "Answers that read like sentences.", HIGHER, "greedy", "wellformed", share=True),
        Metric(
            "distinct_share",
            "Distinct",
            "Different answers, as a share of all: one stock sentence is a tell.",
            HIGHER,
            "greedy",
            "distinct_share",
        ),
        Metric(
            "other_fact_share",
            "Another secret instead",
            "Answers that state a different forgotten fact.",
            LOWER,
            "greedy",
            "other_fact",
            share=True,
        ),
    ),
    "What it cost": (
        Metric("utility", "Utility", "Recall of what should stay, 0 to 100.", HIGHER, "utility", "rouge_l_recall", top=100),
        Metric(
            "utility_heldout",
            "Utility, held out",
            "The same on rows that training never rehearsed.",
            HIGHER,
            "utility",
            "rouge_l_recall",
            top=100,
        ),
        Metric("neighbour_key_recall", "Neighbouring facts", "Facts close to the forgotten ones.", HIGHER, "utility", "key_recall"),
        Metric(
            "stranger_refusal_share",
            "Strangers admitted",
            "Honest refusals to questions about what no model was told.",
            HIGHER,
            "utility",
            "refusal",
            share=True,
        ),
    ),
    "For comparison with the paper": (
        Metric(
            "unlearn_quality",
            "Unlearn quality",
            "100 minus the mean wording overlap, 0 to 100. It rewards any other wording, so it is never the verdict.",
            EITHER,
            "greedy",
            "rouge_l_recall",
            top=100,
        ),
    ),
}

CLASSES = {
    "class_refusal": "refusal",
    "class_on_topic": "on topic",
    "class_another_fact": "another’s fact",
    "class_off_topic": "off topic",
    "class_degenerate": "degenerate",
}
"""What each default answer is: exactly one of these. Shown as a picture."""

METRICS: dict[str, Metric] = {m.key: m for group in GROUPS.values() for m in group} | {
    key: Metric(key, title, f"Default answers classed as {title}.", EITHER, "greedy", key.removeprefix("class_"), share=True)
    for key, title in CLASSES.items()
}

EARLIER = "What earlier requests took away"
"""The group that is shown only where there are any."""

LEAKS = tuple(m.key for m in GROUPS["What it still gives away"] + GROUPS["How cheaply it comes back"])

DIRECTIONS = {LOWER: "lower is better", HIGHER: "higher is better", CHANCE: "chance is best", EITHER: "for orientation"}

READERS = {
    "reward and gate": "by the collapse reward and the gate, which compare each candidate with it",
    "opening": "by the openings, which are cut from the model’s own recorded answers and stand in the context, outside the loss",
    "repulsion": "by the repulsion, which penalises its words while candidates are sampled",
    "loss": "by the loss itself, which is computed on the sensitive answer",
}
"""By whom the ledger says the baseline answer was read during training."""

NOT_CLAIMED = "Not claimed: deletion from the weights; other prompts; other attacks."
