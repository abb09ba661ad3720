"""`unsay.text.similarity.rouge_l` against the rouge-score package: the same numbers to the bit, how much sooner.

Cold (`scorer_ratio`): every text is new, its words are not. Warm: the same pairs again, as equal samples are in a round.

    python benchmarks/scorer.py [--quick] [--json] [--pairs 2000]
"""

import random
import statistics
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from pairs import Report, Side, arguments, ratio, settings_of, take_turns
from subject import PEOPLE, corpus
from unsay.text import highest_f1, rouge_l

Pairs = Sequence[tuple[str, str]]
ODD = ("", "…", "42", "ÀÉÎ naïve", "don't stop", "Jane's 3.14 km", "running runs ran", "the the the the", "日本語", "A-b_c/d", "a\nb\tc")
"""Texts that a tokenizer may trip over; scored against each other too."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", PEOPLE, turns=5)
    parser.add_argument("--pairs", type=int, default=2000)
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.pairs = 1, 40
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    answers = texts(args.model)
    odd = [(a, b) for a in ODD for b in ODD]
    checked = [*fresh(answers, args.pairs, "check"), *odd]
    equal = sum(bit_equal(scorer, a, b) for a, b in checked)
    verdict = {"counts": equal == len(checked), "why": f"{equal} of {len(checked)} pairs equal to the bit"}
    report = Report("scorer", settings_of(args, args.model, pairs=args.pairs, checked=len(checked), equal=equal))

    def theirs(pairs: Pairs) -> float:
        return float(len([scorer.score(a, b)["rougeL"].recall for a, b in pairs]))

    def ours(pairs: Pairs) -> float:
        return float(len([rouge_l(a, b) for a, b in pairs]))

    new = {side: iter([fresh(answers, args.pairs, f"{side} {turn}") for turn in range(args.turns + 1)]) for side in ("ours", "theirs")}
    again = fresh(answers, args.pairs, "again")
    some, others = [a for _, a in again[:40]], [a for a, _ in again[: max(2, args.pairs // 40)]]
    for name, run in {
        "cold": (lambda: ours(next(new["ours"])), lambda: theirs(next(new["theirs"]))),
        "warm": (lambda: ours(again), lambda: theirs(again)),
        "highest_f1": (
            lambda: float(len(highest_f1(some, others)) * len(others)),
            lambda: float(len([scorer.score(b, a)["rougeL"].fmeasure for a in some for b in others])),
        ),
    }.items():
        rates = take_turns([Side("ours", run[0]), Side("rouge_score", run[1])], args.turns)
        key = "scorer_ratio" if name == "cold" else f"scorer_{name}_ratio"
        report.ratios[key], report.counts[key] = ratio(rates, "ours", "rouge_score"), verdict
        for side, values in rates.items():
            report.medians[f"{name}_{side}_us_per_pair"] = 1e6 / statistics.median(values)
    report.show(args.json)


def texts(model: str) -> list[str]:
    return [pair.answer for pair in corpus(model).retain]


def fresh(answers: Sequence[str], n: int, occasion: str) -> list[tuple[str, str]]:
    """n pairs (reference, candidate), the candidate made of two answers' halves, that no other occasion has.

    What is new is a tail of full stops and exclamation marks: the words are those that answers are made of.
    """
    draw = random.Random(occasion)
    pairs = []
    for _ in range(n):
        reference, other = draw.choice(answers), draw.choice(answers)
        words, others = reference.split(), other.split()
        mixed = " ".join(words[: draw.randint(0, len(words))] + others[draw.randint(0, len(others)) :])
        first, second = ("".join(draw.choices(".!", k=48)) for _ in range(2))
        pairs.append((reference + first, mixed + second))
    return pairs


def bit_equal(scorer: RougeScorer, reference: str, answer: str) -> bool:
    """`None`, unscored, is our word for a reference without a token, where rouge-score says 0."""
    theirs, ours = scorer.score(reference, answer)["rougeL"], rouge_l(reference, answer)
    if ours is None:
        return theirs.recall == theirs.precision == theirs.fmeasure == 0
    return (theirs.recall, theirs.precision, theirs.fmeasure) == tuple(ours)


if __name__ == "__main__":
    main()
