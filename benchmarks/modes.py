"""Whether half precision and compilation pay on this machine: each against eager float32, sampling and a training step.

A ratio above 1 means that the mode is faster than eager float32 here. Nothing in the package turns one of them on by itself:
`model.dtype` is the operator's choice, and compilation has to beat its own compiling first (`first_call_s`).

    python benchmarks/modes.py [--quick] [--json] [--model NAME] [--questions 16] [--k 5] [--only bfloat16 compiled]
"""

import time
from collections.abc import Sequence
from functools import partial

from pairs import Report, Side, arguments, ratio, settings_of, take_turns, tell
from subject import GEMMA, Subject, contexts, questions, subject
from unsay.config import SampleConfig
from unsay.lm.model import answer_logprobs
from unsay.lm.sample import Draw, sample

PLAIN = "float32"


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", GEMMA, turns=3)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--k", type=int, default=5, help="answers per question (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="length of every answer (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=("bfloat16", "compiled"), default=["bfloat16", "compiled"])
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.questions, args.k, args.tokens = 1, 2, 2, 4
    models = {PLAIN: subject(args.model)}
    if "bfloat16" in args.only:
        models["bfloat16"] = subject(args.model, "bfloat16")
    if "compiled" in args.only:
        models["compiled"] = subject(args.model)
        models["compiled"].model.compile(dynamic=True)
    asked = questions(models[PLAIN].name, args.questions)
    report = Report("modes", settings_of(args, models[PLAIN].name, questions=len(asked), k=args.k, tokens=args.tokens))
    for what, work in (("sampling", decode), ("training", train)):
        sides = [Side(name, partial(work, tested, asked, args.k, args.tokens)) for name, tested in models.items()]
        if "compiled" in models:
            tell(f"compiling, {what}")
            start = time.perf_counter()
            sides[-1].run()
            report.medians[f"{what}_first_call_s"] = time.perf_counter() - start
        rates = take_turns(sides, args.turns)
        report.rates(rates, "tokens_per_s", f"{what}_")
        for name in args.only:
            report.ratios[f"{what}_{name}_ratio"] = ratio(rates, name, PLAIN)
    report.show(args.json)


def decode(tested: Subject, asked: Sequence[str], k: int, tokens: int) -> float:
    """Sample k answers of `tokens` tokens to each question; tokens written."""
    draws = [Draw(str(i), context, k, 1.25, 0.95) for i, context in enumerate(contexts(tested, asked))]
    sample(tested.model, tested.endless, draws, SampleConfig(max_new_tokens=tokens))
    return float(k * tokens * len(draws))


def train(tested: Subject, asked: Sequence[str], k: int, tokens: int) -> float:
    """One forward and backward pass over every question with itself as the answer; answer tokens."""
    rows = [tested.encoder.pair(question, question) for question in asked]
    batch = tested.encoder.batch(rows, tested.model.device)
    tested.model.zero_grad(set_to_none=True)
    batch.mean(-answer_logprobs(tested.model, batch), "retain").backward()
    return float(sum(len(row.answer) for row in rows))


if __name__ == "__main__":
    main()
