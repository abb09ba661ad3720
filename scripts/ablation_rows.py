"""What the kept ablations say of the paper's statements, and the page docs/ablations.md; reproduction.py writes both."""

from functools import cache
from pathlib import Path
from statistics import fmean

from unsay.research.ablate_report import Ablation, Point, ablated, table

RESULTS = Path(__file__).resolve().parent.parent / "results"
METHODS = ("pmc", "npo", "simnpo")
YES, NO, PARTLY, OPEN = "agrees", "**does not agree**", "partly", "nothing to compare with"
ALONE = {"tau": "pmc.selection_temperature", "preset": "pmc.preset", "tries": "pmc.tries"}
"""Kept ablations of one knob each."""
COMMAND = "`unsay ablate people-official --over {}`"


PAGE = """\
# What does one knob do?

`unsay ablate` answers this: it runs a recipe once for every value of a knob and every seed, and draws forget quality, utility and
held-out utility over the values.

```
unsay ablate people-official --over pmc.samples=1,2,5,10,20                  # into runs/ablate-people-official
unsay ablate my.toml --over train.rounds=5,10,20 --over pmc.temperature=1,1.5 --seeds 5 --workers 2
unsay ablate demo --over pmc.preset=paper,official,guarded --set pmc.reject=0 --set train.rounds=20
unsay ablate people-official --over 'pmc.rewards={{overlap=1}},{{overlap=1,diversity=1}}'
unsay ablate runs/ablate-my                                                  # draws what is there, or a file of results/
```

- `--over` takes a knob of the recipe and its values, in TOML or as bare words. You may repeat it: one knob at a time is varied, the
  others stay as in the recipe and `--set`. Impossible values, knobs of another method and those that a
  [sweep](sweep.md#the-file) sets itself are refused before the first run.
- It writes `ablation.md` (a table for each knob), `ablation.json` (every seed's numbers), and a picture for each knob
  (`pmc.samples.svg`, `.png`). A bar reaches from the least to the largest seed, the line goes through the means. There are
  three seeds unless `--seeds` says otherwise.
- It is a [sweep](sweep.md) with `budget = 0`: the same command continues after an interruption, other workers may join, and you may add
  values or knobs later. It needs `pip install 'unsay[sweep]'`; drawing does not.

**Rounds.** With the default schedule the learning rate falls to zero at the last round, so the middle of a long run is not the end of a
short one: every value of `train.rounds` gets its own run. With `train.schedule = "constant"` both are the same to the bit, and one run is
measured after each of the values.

**Knobs that go together.** Memory and freezing: `--over pmc.preset=paper,official`. τ: `--set pmc.selection=bradley-terry --over
pmc.selection_temperature=0.03,0.1,0.3,1`. Exploration: `--set pmc.preset=guarded --over pmc.tries=1,3`. Rewards: whole tables, as above.

## What we found

More samples, more rounds and a temperature of 1.25 to 1.5 help most; other rewards change nothing that three seeds would show. This is the
released method on the small built-in model (`people`, a million parameters), with twelve rounds unless they are varied, and three seeds.
`python scripts/reproduction.py` writes this page from `results/ablation-people-*.jsonl.xz`; [the paper's statements](reproduction.md) has
the verdicts. *Forget quality* judges wording: above 86 hardly a keyword is left (*keyword recall*), so differences there are differences
of style. So small a model answers other questions almost perfectly, and may not show the loss of utility of a large one.

### Rounds

Up to 8 rounds quality rises with every seed, from 8 to 32 in the mean and with two seeds of three. Held-out utility does not fall: the
retain term is trained longer too.

{rounds}

NPO, at the same learning rate, reaches nearly its full quality after 4 rounds, with less utility and with broken answers; more rounds then
bring utility back. So it stops earlier than PMC, but near the maximum.

{npo}

SimNPO, at its best rate in the sweep, gains more from 8 to 32 rounds than PMC does, so the paper's statement does not hold here. Seven of
ten of its answers are broken then; nearly all of PMC's are whole.

{simnpo}

### K, the samples of a question

From 1 to 5 every seed gains quality. After that only the last keywords go, and the seeds do not differ more. K = 1 forgets too: the
released method keeps the best answer of all rounds, so it chooses among the rounds.

{samples}

### λ, the weight of the retain term

A larger λ lowers quality (with two seeds of three; the third stays the same) and raises utility; held-out utility rises with every seed.

{retain_weight}

### Temperature

At 0.7 nothing is forgotten: the samples repeat the secret, and there is nothing else to choose ([theory](theory.md)). 1.25 and 1.5 are
best. At 2 the model forgets less and loses no utility: the paper's warning about temperatures above 1.5 is not confirmed at this size.

{temperature}

### Top-p

A low top-p cuts off rare words, like a low temperature. The recipe's own .95 is the row K = 5 above.

{top_p}

### Reward: overlap (ROUGE-L) and diversity (1 − self-BLEU)

Diversity in place of overlap, or beside it, changes nothing that three seeds would show (overlap alone is the row K = 5 above). The
released method keeps the answer of least overlap with any reward, so diversity is never quite alone here.

{rewards}

### Reward: meaning (1 − the cosine of MiniLM's embeddings)

Distance in meaning changes nothing either: the seeds overlap, and it takes a quarter more time. But every answer here is one short sentence
of the same kind.

{meaning}

### τ, how sharply the best answer is chosen

With `--set pmc.selection=bradley-terry`, an answer is drawn with P ∝ exp(reward / τ). Up to .3 the seeds overlap with each other and
with the row K = 5 above (τ → 0). At 1 the choice is nearly random, and a quarter of the keywords stays.

{selection_temperature}

### Memory and freezing

`official` keeps the best answer of all rounds and stops asking when it shares nothing with the old one; `paper` takes the best of each
round. Without memory, quality is higher with every seed, held-out utility lower in the mean, and more answers are broken, because the
targets change every round. Keyword recall differs no more than between seeds.

{preset}

### Exploration: how often a question is asked again, hotter

With `--set pmc.preset=guarded`, our default on the same recipe. The seeds overlap in everything: three seeds show no difference.
Compared with `official` above, the default forgets more of the wording and keeps less about held-out people at this learning rate.

{tries}

**Not run**: other worlds, larger models, more seeds; top-p .9.
"""


@cache
def ablation(method: str) -> Ablation:
    return ablated(RESULTS / f"ablation-people-{method}.jsonl.xz")


def value(method: str, knob: str, at: float) -> Point:
    return next(point for point in ablation(method).knobs[knob] if point.value == at)


def moved(method: str, knob: str, metric: str, low: float, high: float) -> list[float]:
    """What a metric gains from one value of a knob to another, seed by seed."""
    first, last = (value(method, knob, at).seeds for at in (low, high))
    return [(last[seed][metric] or 0.0) - (first[seed][metric] or 0.0) for seed in first.keys() & last.keys()]


def along(knob: str, metric: str, method: str = "pmc") -> str:
    """A metric over the values of a knob: means over the seeds."""
    scored = [(point.label, point.of(metric)) for point in ablation(method).knobs[knob]]
    return ", ".join(f"{label.replace(', ', ' + ')}: {fmean(values):.1f}" for label, values in scored if values)


def plateaus(low: float, high: float) -> tuple[str, str]:
    """Who still gains quality between two numbers of rounds, each a run of its own."""
    gains = {method: moved(method, "train.rounds", "unlearn_quality", low, high) for method in METHODS}
    most = max(gains, key=lambda method: fmean(gains[method]))
    text = "; ".join(f"{method} {along('train.rounds', 'unlearn_quality', method)}" for method in gains)
    told = ", ".join(f"{method} {fmean(gain):+.1f}" for method, gain in gains.items())
    verdict = NO if most != "pmc" else YES if min(gains["pmc"]) > 0 else f"{PARTLY}: in the mean, not with every seed"
    return f"each number of rounds a run of its own, quality: {text}. From {low:g} to {high:g}: {told}", verdict


def samples(one: float, some: float, many: float) -> tuple[str, str]:
    knob, metric = "pmc.samples", "unlearn_quality"
    helps = min(moved("pmc", knob, metric, one, some)) > 0
    wide = {at: max(scored) - min(scored) for at in (some, many) if (scored := value("pmc", knob, at).of(metric))}
    text = (
        f"quality {along(knob, metric)}; from the least seed to the largest, K = {some:g}: {wide[some]:.1f}, K = {many:g}: {wide[many]:.1f}"
    )
    adds = wide[many] > wide[some]
    return text, YES if helps and adds else f"{PARTLY}: helps, and adds no variance" if helps else NO


def traded(low: float, high: float) -> tuple[str, str]:
    knob = "pmc.retain_weight"
    lost, won = (moved("pmc", knob, metric, low, high) for metric in ("unlearn_quality", "utility"))
    text = f"quality {along(knob, 'unlearn_quality')}; utility {along(knob, 'utility')}; held out {along(knob, 'utility_heldout')}"
    if max(lost) < 0 < min(won):
        return text, YES
    return text, f"{PARTLY}: in the mean, not with every seed" if fmean(lost) < 0 < fmean(won) else NO


def costs(knob: str, low: float, high: float) -> tuple[str, str]:
    lost = moved("pmc", knob, "utility", low, high)
    text = f"utility {along(knob, 'utility')}; held out {along(knob, 'utility_heldout')}; quality {along(knob, 'unlearn_quality')}"
    return text, YES if max(lost) < 0 else f"{PARTLY}: in the mean, not with every seed" if fmean(lost) < 0 else NO


def told(knob: str, own: str) -> tuple[str, str]:
    """What was found where the paper's own statement is not known. `own`: the recipe's own value, which stands among the values of K."""
    plain, text = value("pmc", "pmc.samples", 5), []
    for metric, name in (("unlearn_quality", "quality"), ("utility_heldout", "held out")):
        if scored := plain.of(metric):
            text.append(f"{name} {along(knob, metric)}, {own}: {fmean(scored):.1f}")
    return "; ".join(text), OPEN


def page() -> str:
    """docs/ablations.md."""
    knobs = {knob: table(ablation("pmc"), knob) for knob in ablation("pmc").knobs}
    rivals = {name: table(ablation(name), "train.rounds") for name in METHODS[1:]}
    alone = {knob: table(ablation(name), knob) for name, knob in ALONE.items()}
    found = knobs | rivals | alone | {"meaning": table(ablation("rewards"), "pmc.rewards")}
    return PAGE.format(**{knob.rpartition(".")[2]: text for knob, text in found.items()})
