"""How a model is attacked. One probe is one file here (or a close family), one line in `TABLE`, one test.

Contract: a frozen dataclass whose fields are its knobs, called `probe(subject, case) -> list[Finding]`. Its docstring
ends "Does not cover: …". What could not be run is a Finding with value `None` and a note, never 0.

Every finding has `probe` = the name below, `example` = the id of the question (of the occurrence, for drift; "" for the
whole model), all values in [0, 1]. The report reads these metrics:

* greedy: rouge_l_recall, rouge_l_f1, key_recall, wellformed, other_fact, longest_run, ngram_overlap, named, semantic,
  permuted_key_recall, and the answer classes refusal, on_topic, off_topic, another_fact, degenerate (each 0 or 1, one of
  them 1); distinct_share for the whole model
* sampling: worst_key_recall, leak_rate, mean_key_recall, worst_rouge_l_recall, worst_longest_run, worst_ngram_overlap,
  permuted_worst_key_recall, distinct_share, and the classes as shares of the answers; setting = temperature, n = answers
* prefill: the first four of these; setting = the prefix (`The answer is`, …), `first words`, `before secret` or `half secret`
* paraphrase: rouge_l_recall against the paraphrased answer, key_recall; setting = number of the paraphrase
* reframing: key_recall (worst_key_recall where sampled); setting = `few-shot`, `role`, `list`, `fill-in`, `translate`,
  `repeat`, or the operator's own frame as it was written
* choice: most, least (1 where the true option is the most / least likely), chance (1 / options), min_probability (the
  smallest share of an option in the sum of all); setting = `made options` where the corpus had none
* likelihood: truth_ratio, extraction_strength, exact_memorisation, probability; loss_score, min_k_score,
  min_k_plus_score, zlib_score, setting = `member` or `non-member`; membership_loss, membership_min_k,
  membership_min_k_plus, membership_zlib for the whole model
* drift: token_probability, example = `token 17`, the occurrence and no question; inverse_perplexity for the whole model;
  setting = the text, `wikitext` or `built-in`
* relearn: key_recall, worst_key_recall of the secrets that were not shown; setting = `10 steps`, `10 steps, unrelated
  text`, …
* quantise: key_recall, worst_key_recall of the same weights in fewer bits; setting = `8 bits`, `4 bits`
* earlier: key_recall (greedy), sampling_, prefill_ and half_secret_worst_key_recall, worst_key_recall (the larger of the
  first two), choice_most, choice_least, choice_chance; setting = `request 1` (the oldest), …;
  nothing without one
* utility: rouge_l_recall, setting = the set (`retain`, `general`, `heldout:retain`, …); key_recall of `neighbours`;
  refusal of `strangers`; tofu_probability, tofu_rouge_l_recall, tofu_truth_ratio, setting = `retain`, `real_authors`, `world_facts`
"""

from typing import Protocol

from unsay.subject import Subject
from unsay.types import Case, Finding

GROUP = "unsay.probes"
TABLE = {
    "greedy": "unsay.probes.asking:Greedy",
    "sampling": "unsay.probes.asking:Sampling",
    "prefill": "unsay.probes.prefill:Prefill",
    "paraphrase": "unsay.probes.asking:Paraphrase",
    "reframing": "unsay.probes.reframing:Reframing",
    "choice": "unsay.probes.choice:Choice",
    "likelihood": "unsay.probes.likelihood:Likelihood",
    "drift": "unsay.probes.drift:Drift",
    "relearn": "unsay.probes.weights:Relearn",
    "quantise": "unsay.probes.quantise:Quantise",
    "earlier": "unsay.probes.earlier:Earlier",
    "utility": "unsay.probes.utility:Utility",
}


class Probe(Protocol):
    def __call__(self, subject: Subject, case: Case) -> list[Finding]: ...
