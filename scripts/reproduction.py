"""What the paper says, beside what was found here: writes three pages of docs/ (reproduction, runtime, ablations) from results/.

    python scripts/reproduction.py            # all pages anew
    python scripts/reproduction.py --check    # exit code 1 where a page is not what the files say

A statement that nothing here can test stands in the table with the reason. The paper is arXiv 2507.04219; figures of its
repository are quoted as such.
"""

import argparse
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median

import ablation_rows as ablations
from ablation_rows import NO, PARTLY, YES
from run_rows import ability, side_effects, texts
from scipy.stats import binom

from unsay.research import theory
from unsay.research.front.curves import Configuration, Step, Sweeps, read
from unsay.research.front.trade import front
from unsay.store.files import parse_jsonl, write_text

ROOT = Path(__file__).resolve().parent.parent
PEOPLE, AUTHOR_190, AUTHOR_191 = (ROOT / "results" / f"{name}.jsonl.xz" for name in ("people", "tofu-gemma-270m", "tofu-gemma-270m-191"))
NOT_RUN = "not run"


STATEMENTS = """\
# Which statements of the paper did we find again?

Of {tested} comparisons, {agree} agree with the paper, {partly} agree in part and {no} do not.
`python scripts/reproduction.py` writes this page from the files in `results/` and from `unsay theory`; a test compares them.
The paper is [arXiv 2507.04219](https://arxiv.org/abs/2507.04219). Its figures are for models of 1.5 to 12 billion parameters on an
H100; ours are for Gemma 3 270M (two authors of TOFU, one after the other, one seed, three configurations a method) and a model of a
million parameters (`people`: eight configurations, up to three seeds; the [ablations](ablations.md) three seeds), on two cores.
So *does not agree* means: not at this size. *Nothing to compare with* means that we do not know the paper's figure. The
[protocol](protocol.md) says what was equal, [results](results.md) what else we found.

| paper | says | found | verdict | command |
|---|---|---|---|---|
{rows}
"""
TIMES = """\
# How long does each method take?

`python scripts/reproduction.py` writes this page from the curves in `results/`. Processor seconds on two cores of an AMD EPYC, for 40
questions of `people` (a million parameters) and 20 of TOFU (Gemma 3 270M); evaluation does not count.

*Until half is gone*: the shortest time, recording included, after which greedy answers tell at most half of what they told before, over the
configurations of a method. Checkpoints are a sixth of a run's time apart (of 24, 360 and 900 seconds); ≤ means that the first checkpoint
was there already, – that none was, or that the method was not run. *A round*: one visit to every question; the median over runs, between
the first and the last checkpoint.

| method | people: until half is gone | author 190 | author 191 | people: a round | author 190 | author 191 |
|---|---|---|---|---|---|---|
{rows}

The repository of the paper quotes, on an H100: Phi-1.5 40 minutes, Llama-3.2-3B 30, with alignment 26 and 35.
"""


@dataclass(frozen=True)
class Row:
    """One statement of the paper."""

    where: str
    says: str
    command: str
    found: Callable[[], tuple[str, str]]
    """What was found, and whether it agrees."""


@cache
def swept(path: Path) -> Sweeps:
    return read([path])


@cache
def volumes(path: Path) -> Mapping[str, float]:
    """Method → hypervolume of unlearn quality × utility, forgetting counted no further than the retain model's."""
    reached = front([path], replications=1).panels["quality"].methods
    return {name: (reach.capped or reach.volume).value for name, reach in reached.items()}


@cache
def probed(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Method (or `retain_model`) → the probes of the first of its configurations that was probed, mean over seeds."""
    files = parse_jsonl(lzma.decompress(path.read_bytes()).decode())[0]
    found: dict[str, dict[str, list[float]]] = {}
    first: dict[str, str] = {}
    for name in (name for name in files if name.startswith("probes")):
        for line in parse_jsonl(files[name]):
            method = line["trial"].partition("/")[0]
            if first.setdefault(method, line["trial"]) == line["trial"]:
                for key, value in line["metrics"].items():
                    found.setdefault(method, {}).setdefault(key, []).append(value)
    return {method: {key: fmean(values) for key, values in metrics.items()} for method, metrics in found.items()}


def curves(path: Path, method: str) -> Iterator[tuple[Configuration, Sequence[Step]]]:
    for one in swept(path).configurations[method]:
        for curve in one.curves.values():
            if curve:
                yield one, curve


def ranked(path: Path) -> tuple[str, str]:
    """Where the released PMC, or else the default, stands among all methods."""
    order = sorted(volumes(path).items(), key=lambda item: -item[1])
    ours = "pmc-official" if "pmc-official" in volumes(path) else "pmc"
    place = [name for name, _ in order].index(ours) + 1
    text = ", ".join(f"{name} {value:.3f}" for name, value in order)
    return f"{ours} is number {place} of {len(order)}: {text}", YES if place == 1 else NO


def attacked(key: str, agrees: Callable[[Mapping[str, float], float], bool], path: Path = AUTHOR_191) -> tuple[str, str]:
    """A number of the probes on every method, and whether the statement holds of it: `agrees(method → value, the retain model's)`."""
    found = {name: metrics[key] for name, metrics in probed(path).items() if key in metrics}
    retain_model = found.pop("retain_model")
    text = ", ".join(f"{name} {value:.3g}" for name, value in sorted(found.items(), key=lambda item: item[1]))
    return f"retain model {retain_model:.3g}; {text}", YES if agrees(found, retain_model) else NO


def no_more(found: Mapping[str, float], retain_model: float) -> bool:
    """Whether no variant of PMC tells more than the retain model."""
    return all(value <= retain_model for name, value in found.items() if name.startswith("pmc"))


def rivals_alone(found: Mapping[str, float], retain_model: float) -> bool:
    """Whether some rival stands above chance, one in six, by more than 120 questions (forty, three seeds) would by luck one time in
    twenty, and no variant of PMC does."""
    above = [name for name, value in found.items() if 120 * value > binom.ppf(0.95, 120, 1 / 6)]
    return bool(above) and not any(name.startswith("pmc") for name in above)


def grows() -> tuple[str, str]:
    """Of what each method gains in unlearn quality, the share that it gains in the second half of its time; runs of six checkpoints
    that gain at all."""
    before = fmean(one["unlearn_quality"] or 0.0 for one in swept(PEOPLE).references[str(PEOPLE)]["before"])
    late, counted = {}, {}
    for method in ("pmc", "npo", "simnpo", "dpo", "altpo"):
        whole = [[step.metrics.get("unlearn_quality") or 0.0 for step in curve] for _, curve in curves(PEOPLE, method) if len(curve) == 6]
        shares = [(curve[5] - curve[2]) / (curve[5] - before) for curve in whole if curve[5] - before > 5]
        late[method], counted[method] = fmean(shares), len(shares)
    text = ", ".join(f"{name} {value:.3f} ({counted[name]} runs)" for name, value in late.items())
    most = max(late, key=lambda name: late[name])
    return f"share of the gain that comes in the second half: {text}; learning rates fall over a run", YES if most == "pmc" else NO


def rises(path: Path, method: str) -> tuple[str, str]:
    """The configuration whose last checkpoint has the largest quality × utility, before and after."""
    before = swept(path).references[str(path)]["before"]
    quality, utility = (fmean(one[key] or 0.0 for one in before) for key in ("unlearn_quality", "utility"))
    last = [curve[-1].metrics for _, curve in curves(path, method)]
    best = max(last, key=lambda metrics: (metrics["unlearn_quality"] or 0.0) * (metrics["utility"] or 0.0))
    kept = (best["utility"] or 0.0) / utility
    text = f"quality {quality:.1f} → {best['unlearn_quality']:.1f}, utility {utility:.1f} → {best['utility']:.1f}"
    return text, YES if kept >= 0.95 else f"{PARTLY}: forgets, and keeps {100 * kept:.0f} % of utility"


def proven(*beginnings: str) -> Callable[[], tuple[str, str]]:
    """The findings of `unsay theory` whose statement begins so."""

    def found() -> tuple[str, str]:
        chosen = [one for one in checked() if one.statement.startswith(beginnings)]
        text = "; ".join(f"{one.expected:.4g} by formula, {one.found:.4g} found" for one in chosen)
        return text, YES if chosen and all(one.agrees for one in chosen) else NO

    return found


@cache
def checked() -> Sequence[theory.Finding]:
    return theory.shown(0).findings


def because(why: str) -> Callable[[], tuple[str, str]]:
    return lambda: (why, NOT_RUN)


FRONT = "`unsay sweep people`, `unsay front results/people.jsonl.xz`"
FRONT_190 = "`unsay sweep tofu-gemma-270m`, `unsay front results/tofu-gemma-270m.jsonl.xz`"
PROBES = "`python scripts/probe_trials.py SWEEP OUT TRIAL …`"
ROWS = (
    Row("section 3", "what is not retained dies out as α^t", "`unsay theory`", proven("mass of what")),
    Row(
        "section 4",
        "the expected reward rises to the best, its variance to 0",
        "`unsay theory`",
        proven("E[e^r] in the end", "variance", "largest shortfall"),
    ),
    Row(
        "section 4",
        "more samples K, or a lower τ, collapse faster (E[e^r] after 5 rounds for K, τ = 2, .3; 5, .3; 5, 1; 10, 1)",
        "`unsay theory`",
        proven("E[e^r] after 5 rounds"),
    ),
    Row(
        "repository, Phi-1.5",
        "quality 38.3 → 95.6, utility 70.0 → 69.0, 40 minutes on an H100",
        "`unsay run tofu-phi-1.5-official`",
        because("no weights of Phi-1.5 and no accelerator on the machine"),
    ),
    Row(
        "repository, Llama-3.2-3B",
        "quality 35.4 → 99.2, utility 91 → 84.0, 30 minutes on an H100",
        "`unsay run tofu-llama-3.2-3b-instruct-official`",
        because("no weights of Llama-3.2 and no accelerator on the machine"),
    ),
    Row(
        "repository, aligned",
        "Phi-1.5 94.8 / 71.0 after 40 epochs, Llama-3.2-3B 98.4 / 85.0 after 15 (quality / utility)",
        "`unsay run tofu-phi-1.5-align`, `unsay run tofu-llama-3.2-3b-instruct-align`",
        because("no weights of either and no accelerator on the machine"),
    ),
    Row("the same, smaller", "quality rises, utility stays", FRONT_190, lambda: rises(AUTHOR_190, "pmc-official")),
    Row("main figure", "PMC’s trade of quality and utility dominates the rivals’", FRONT_190, lambda: ranked(AUTHOR_190)),
    Row("the same", "", "the same on author 191", lambda: ranked(AUTHOR_191)),
    Row("the same", "", FRONT, lambda: ranked(PEOPLE)),
    Row("epochs", "more rounds keep helping PMC after the rivals have stopped", FRONT, grows),
    Row("the same", "", ablations.COMMAND.format("train.rounds=2,4,8,16,32"), lambda: ablations.plateaus(8, 32)),
    Row(
        "sampling attack",
        "the worst of 100 answers tells no more than the retain model’s (ten questions)",
        PROBES,
        lambda: attacked("sampling_worst_keyword_recall", no_more),
    ),
    Row("prefill attack", "nor does an answer that is begun", PROBES, lambda: attacked("prefill_worst_keyword_recall", no_more)),
    Row(
        "side effects",
        "on WikiText, PMC moves the words of forget answers less than NPO does",
        "`python scripts/side_effects.py demo OUT pmc npo simnpo dpo`, [figure](side-effects.png)",
        lambda: side_effects("people"),
    ),
    Row(
        "the same",
        "",
        "`UNSAY_DATA=DIR python scripts/side_effects.py tofu-gemma-270m OUT pmc npo simnpo`, [figure](side-effects-gemma.png)",
        lambda: side_effects("gemma"),
    ),
    Row(
        "multiple choice",
        "rivals make the true option the least likely, PMC does not",
        PROBES,
        lambda: attacked("multiple_choice_least", rivals_alone, PEOPLE),
    ),
    Row("alignment", "a term toward desired answers keeps utility up", FRONT_190, lambda: aligned(AUTHOR_190)),
    Row(
        "K",
        "more samples help, then add variance",
        ablations.COMMAND.format("pmc.samples=1,2,5,10,20"),
        lambda: ablations.samples(1, 5, 20),
    ),
    Row(
        "λ",
        "a larger λ trades quality for utility",
        ablations.COMMAND.format("pmc.retain_weight=0.25,0.5,1,2,4"),
        lambda: ablations.traded(0.25, 4),
    ),
    Row(
        "temperature",
        "above 1.5, utility falls",
        ablations.COMMAND.format("pmc.temperature=0.7,1,1.25,1.5,2"),
        lambda: ablations.costs("pmc.temperature", 1.5, 2),
    ),
    Row(
        "top-p",
        "(what the paper says of it was not recovered)",
        ablations.COMMAND.format("pmc.top_p=0.8,1"),
        lambda: ablations.told("pmc.top_p", "0.95"),
    ),
    Row(
        "self-BLEU",
        "diversity as a reward (what the paper found was not recovered)",
        ablations.COMMAND.format("'pmc.rewards={diversity=1},{overlap=1,diversity=1}'"),
        lambda: ablations.told("pmc.rewards", "overlap 1"),
    ),
    Row("ARC, MMLU", "general ability stays", "`unsay benchmark RUN --data DIR --limit 50`", ability),
    Row("MUSE", "free text is forgotten too", "`unsay run passages`", texts),
)


def aligned(path: Path) -> tuple[str, str]:
    utility = {name: max(curve[-1].metrics["utility"] or 0.0 for _, curve in curves(path, name)) for name in ("pmc-official", "pmc-align")}
    text = f"utility at the end, best of three configurations: with it {utility['pmc-align']:.1f}, without {utility['pmc-official']:.1f}"
    return text, YES if utility["pmc-align"] >= utility["pmc-official"] else NO


def reproduction() -> str:
    """The page of statements."""
    lines, verdicts = list[str](), list[str]()
    for row in ROWS:
        text, verdict = row.found()
        lines.append(f"| {row.where} | {row.says} | {text} | {verdict} | {row.command} |")
        verdicts.append(verdict)
    agree, no = verdicts.count(YES), verdicts.count(NO)
    partly = sum(verdict.startswith(PARTLY) for verdict in verdicts)
    return STATEMENTS.format(rows="\n".join(lines), tested=agree + partly + no, agree=agree, partly=partly, no=no)


def halved(path: Path, method: str) -> str:
    """Least seconds, over configurations (mean over seeds), until greedy answers say half of what they said before. With ≤ where
    that was so at the first checkpoint already."""
    before = fmean(one["greedy_keyword_recall"] or 0.0 for one in swept(path).references[str(path)]["before"])
    found = []
    for one in swept(path).configurations.get(method, ()):
        for checkpoint in range(1, 7):
            said = one.at(checkpoint, "greedy_keyword_recall")
            if said is not None and said <= before / 2:
                seconds = fmean(step.cpu_seconds for curve in one.curves.values() for step in curve if step.checkpoint == checkpoint)
                found.append((seconds, f"{'≤ ' if checkpoint == 1 else ''}{seconds:.0f}"))
                break
    return min(found, default=(0.0, "–"))[1]


@cache
def runtime() -> str:
    """The page of times."""
    files = {"people": PEOPLE, "author 190": AUTHOR_190, "author 191": AUTHOR_191}
    methods = dict.fromkeys(name for path in files.values() for name in swept(path).configurations)
    lines = []
    for method in methods:
        rounds = [number(path, method) for path in files.values()]
        cells = [halved(path, method) for path in files.values()] + ["–" if cost is None else f"{cost:.3g}" for cost in rounds]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return TIMES.format(rows="\n".join(lines))


def number(path: Path, method: str) -> float | None:
    """Median processor seconds of a round, between the first and the last checkpoint: what comes before does not count."""
    if method not in swept(path).configurations:
        return None
    ends = [(curve[0], curve[-1]) for _, curve in curves(path, method)]
    costs = [(last.cpu_seconds - first.cpu_seconds) / (last.round - first.round) for first, last in ends if last.round > first.round]
    return median(costs) if costs else None


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/reproduction.md, runtime.md and ablations.md from the files in results/.")
    parser.add_argument("--check", action="store_true", help="write nothing; say which page is not what the files say")
    args = parser.parse_args()
    texts = {"reproduction": reproduction(), "runtime": runtime(), "ablations": ablations.page()}
    pages = {ROOT / "docs" / f"{name}.md": text for name, text in texts.items()}
    wrong = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        if args.check:
            print(f"{path.name} is not what the files say: run {Path(__file__).name}")
        else:
            write_text(path, pages[path])
    return 1 if args.check and wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
