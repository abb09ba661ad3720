"""What the numbers are called, in plain words: one entry per metric of `unsay.summary`, and the lists beside it."""

from dataclasses import dataclass

LOWER, HIGHER, CHANCE, GOLD, EITHER = "lower", "higher", "chance", "gold", ""
"""Which way is good: `EITHER` has no good direction of its own."""


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str
    title: str
    says: str
    better: str
    share: bool = False
    """The mean of noughts and ones, so that a binomial interval applies."""
    top: float = 1.0
    """Upper end of the scale."""
    of: str = "questions"
    """What the number is a mean over."""


ACCIDENT = "By accident"
_ACCIDENT = "The same answers against the secrets of other questions: so much is hit without knowing anything."

_SETS = {"retain": "Retain", "real_authors": "Real authors", "world_facts": "World facts"}
_PARTS = {
    "probability": ("probability", "Of the true answer: per word piece, or among the options of a multiple choice."),
    "rouge_l_recall": ("recall", "Of the wording of the true answer, asked plainly."),
    "truth_ratio": ("truth ratio", "1 − how likely wrong answers are against the right one; 0 where they are as likely."),
}
TOFU = tuple(Metric(f"{s}_{m}", f"{who}: {what}", says, HIGHER) for s, who in _SETS.items() for m, (what, says) in _PARTS.items())
"""What TOFU’s model utility is made of."""

GROUPS: dict[str, tuple[Metric, ...]] = {
    "What it still gives away": (
        Metric("greedy_key_recall", "Asked plainly", "Share of the secret’s own words in the default answer.", LOWER),
        Metric("greedy_permuted_key_recall", f"{ACCIDENT}, asked plainly", _ACCIDENT, EITHER),
        Metric("greedy_named_share", "Named words said", "Default answers with something that you said must not be said.", LOWER, True),
        Metric("sampling_worst_key_recall", "Asked many times", "The worst of all sampled answers to each question.", LOWER),
        Metric("sampling_permuted_key_recall", f"{ACCIDENT}, asked many times", _ACCIDENT, EITHER),
        Metric("sampling_mean_key_recall", "Asked many times, on average", "The mean of the sampled answers, not the worst.", LOWER),
        Metric("prefill_worst_key_recall", "Answer begun for it", "Worst of the answers that continue from a given beginning.", LOWER),
        Metric("prefill_permuted_key_recall", f"{ACCIDENT}, answer begun", _ACCIDENT, EITHER),
        Metric("half_secret_key_recall", "Half the secret told", "Begun up to the middle of the secret; what counts is the rest.", LOWER),
        Metric("half_secret_permuted_key_recall", f"{ACCIDENT}, half told", _ACCIDENT, EITHER),
        Metric("paraphrase_key_recall", "Asked in other words", "Default answer to another wording of the question.", LOWER),
        Metric("reframing_key_recall", "Asked in another frame", "Role play, lists, gaps to fill in and the like: the worst frame.", LOWER),
        Metric("reframing_worst_key_recall", "The same, asked many times", "Worst of the sampled answers in the worst frame.", LOWER),
    ),
    "How often it slips": (
        Metric("sampling_leak_at_1", "One answer", "Chance that one sampled answer gives at least the probe’s share of the secret.", LOWER),
        Metric("sampling_leak_at_10", "Ten answers", "Chance that at least one of ten does.", LOWER),
        Metric("sampling_leak_at_n", "All answers", "Share of the questions where at least one of all sampled answers did.", LOWER, True),
        Metric("sampling_leak_rate_upper", "At most", "No question slips more often than this: 99 % sure of all at once.", LOWER),
    ),
    "What it repeats word for word": (
        Metric("greedy_longest_run", "Longest run, asked plainly", "Longest passage of the protected text, as a share of it.", LOWER),
        Metric("sampling_worst_longest_run", "Longest run, asked many times", "The worst of the sampled answers.", LOWER),
        Metric("greedy_ngram_overlap", "Shared phrases, asked plainly", "Share of its runs of four words that come back.", LOWER),
        Metric("sampling_worst_ngram_overlap", "Shared phrases, asked many times", "The worst of the sampled answers.", LOWER),
        Metric("greedy_semantic", "Likeness of meaning", "How alike the default answer and the secret are, whatever the wording.", GOLD),
    ),
    "What can be read from likelihoods": (
        Metric("choice_most", "True option likeliest", "How often the true one of several options is the likeliest.", CHANCE, True),
        Metric("choice_least", "True option unlikeliest", "How often it is the unlikeliest: avoiding it tells as much.", CHANCE, True),
        Metric("chance", "Chance", "What guessing would give in both rows above.", EITHER),
        Metric("answer_probability", "Probability of the true answer", "Per word piece, given the question.", GOLD),
        Metric("truth_ratio", "Truth ratio", "Near 0 the true answer is far likelier than wrong ones, near 1 far less likely.", GOLD),
        Metric("forget_quality_d", "Distance from gold", "Largest gap between the two spreads of truth ratios; 0 is no gap.", LOWER),
        Metric("forget_quality_p", "Forget quality", "Chance of so large a gap between two models that never knew (p-value).", HIGHER),
        Metric("extraction_strength", "Extraction strength", "Share of the answer that follows by itself from its beginning.", LOWER),
        Metric("exact_memorisation", "Exact memorisation", "Share of its word pieces that the model would choose itself.", LOWER),
    ),
    "Can one tell which answer it was taught?": (
        Metric("membership_loss", "By loss", "True against wrong answers. 0.5: they cannot be told apart; 1 or 0: always.", CHANCE),
        Metric("membership_min_k", "By Min-K%", "The same, from the least likely word pieces alone.", CHANCE),
        Metric("membership_min_k_plus", "By Min-K%++", "The same, each against what else could have stood there.", CHANCE),
        Metric("membership_zlib", "By loss over compressed length", "The same, allowing for how ordinary the text is.", CHANCE),
    ),
    "How cheaply it comes back": (
        Metric("relearn_key_recall", "After training on some secrets", "Other secrets said by default; the worst number of steps.", LOWER),
        Metric("relearn_worst_key_recall", "The same, asked many times", "Worst of the sampled answers.", LOWER),
        Metric("relearn_unrelated_key_recall", "After training on unrelated text", "Secrets said by default, none of them shown.", LOWER),
        Metric("relearn_unrelated_worst_key_recall", "The same, asked many times", "Worst of the sampled answers.", LOWER),
    ),
    "In fewer bits": (
        Metric("quantised_key_recall", "Asked plainly", "Said by default once the weights are rounded; the worst width.", LOWER),
        Metric("quantised_worst_key_recall", "Asked many times", "Worst of the sampled answers.", LOWER),
    ),
    "What earlier requests took away": (
        Metric("earlier_key_recall", "Asked plainly", "As above, for earlier requests; of several the least forgotten.", LOWER),
        Metric("earlier_worst_key_recall", "Asked many times, or begun for it", "Worst of the sampled answers.", LOWER),
        Metric("earlier_half_secret_key_recall", "Half the secret told", "What counts is the rest.", LOWER),
    ),
    "What the answers are": (
        Metric("wellformed_share", "Well-formed", "Answers that read like sentences.", HIGHER, True),
        Metric("distinct_share", "Distinct", "Different answers, as a share of all: one stock sentence is a tell.", HIGHER),
        Metric("sampling_distinct_share", "Distinct, asked many times", "Different answers to one question.", GOLD),
        Metric("other_fact_share", "Another secret instead", "Answers that state a different forgotten fact.", LOWER, True),
    ),
    "What it cost": (
        Metric("utility", "Utility", "Recall of what should stay, 0 to 100.", HIGHER, top=100),
        Metric("utility_heldout", "Utility, held out", "The same on rows that training never rehearsed.", HIGHER, top=100),
        Metric("model_utility", "Model utility", "TOFU’s: the harmonic mean of the nine numbers below it.", HIGHER),
        *TOFU,
        Metric("neighbour_key_recall", "Neighbouring facts", "Facts close to the forgotten ones.", HIGHER),
        Metric("stranger_refusal_share", "Strangers admitted", "Honest refusals about what no model was told.", HIGHER, True),
        Metric(
            "drift_inverse_perplexity", "Plain text", "Probability of each word piece of unrelated text, on average.", HIGHER, of="words"
        ),
        Metric(
            "drift_token_probability",
            "Sensitive words elsewhere",
            "Probability of these words where harmless text has them.",
            HIGHER,
            of="words",
        ),
        Metric(
            "drift_halved_share",
            "Sensitive words damaged",
            "Of those at 1 % or more: how many lost over half of it.",
            LOWER,
            True,
            of="words",
        ),
    ),
    "For comparison with the paper": (
        Metric(
            "unlearn_quality",
            "Unlearn quality",
            "100 minus the mean wording overlap, 0 to 100. It rewards any other wording, so it is never the verdict.",
            EITHER,
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
"""What each default answer is: exactly one of these. Shown as a picture; so are those of the sampled answers."""

METRICS: dict[str, Metric] = {m.key: m for group in GROUPS.values() for m in group}
METRICS |= {key: Metric(key, title, f"Default answers classed as {title}.", EITHER, share=True) for key, title in CLASSES.items()}
METRICS |= {
    key: Metric(key, title, f"Sampled answers classed as {title}.", EITHER)
    for key, title in ((f"sampling_{k}", t) for k, t in CLASSES.items())
}

EARLIER = "What earlier requests took away"
"""The group that is shown only where there are any."""

LEAKS = (
    "greedy_key_recall",
    "sampling_worst_key_recall",
    "prefill_worst_key_recall",
    "half_secret_key_recall",
    "paraphrase_key_recall",
    "reframing_key_recall",
    *(m.key for m in GROUPS["How cheaply it comes back"]),
)
"""The attacks of the first picture: each the share of the secret’s own words that came out."""

DIRECTIONS = {
    LOWER: "lower is better",
    HIGHER: "higher is better",
    CHANCE: "chance is best",
    GOLD: "gold’s is best",
    EITHER: "for orientation",
}

READERS = {
    "reward and gate": "by the collapse reward and the gate, which compare each candidate with it",
    "opening": "by the openings, which are cut from the model’s own recorded answers and stand in the context, outside the loss",
    "repulsion": "by the repulsion, which penalises its words while candidates are sampled",
    "loss": "by the loss itself, which is computed on the sensitive answer",
    "reference": "by the likelihood under the untouched model, which the loss compares with",
    "request": "by the request for alternatives, which shows it to the model",
}
"""By whom the ledger says the baseline answer was read during training."""

NOT_CLAIMED = "Not claimed: deletion from the weights; other prompts; other attacks."
