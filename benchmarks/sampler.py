"""Answers per second: `unsay.lm.sample` against `generate` as documented, as well set as it can be, `generate_batch` and vLLM.

Every answer has the same number of tokens, on every side; a second comparison lets answers end where they end. Before a side
is timed, its greedy answers and sampled frequencies are checked (proof.py): `counts` says with what result. The others run
on the layers that torch has; `best_generate_onednn` is the best `generate` with our matrix products (unsay/lm/linear.py), so that
its ratio shows what is left to the sampler alone. Shares of the matrix-product limit take a 2048³ product in the same process
and type as 1: torch's own, and the quickest there is here.

    python benchmarks/sampler.py [--quick] [--json] [--model NAME] [--k 5 20] [--only best_generate documented]
"""

import importlib.util
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from engines import Continuous, Decoding, Engine, Generate, Ours, Vllm, configurations
from judge import TEMPERATURE, TOP_P, Judge
from pairs import Report, Side, arguments, per_second, ratio, settings_of, take_turns, tell
from subject import GEMMA, Subject, contexts, questions, subject
from unsay.lm.linear import linear, pays

_FEW = 4
"""Least number of questions that a `generate` is timed on: its speed depends on its batch, not on how many there are."""
_TRIAL = 16
"""Tokens of an answer while the settings of `generate` are tried."""

Contexts = Sequence[tuple[int, ...]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", GEMMA, turns=3)
    parser.add_argument("--k", type=int, nargs="+", default=[5, 20], help="answers per question (default: 5 20)")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="length of every answer (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=1024, help="draws behind each χ² test (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=("equal", "natural"), default=["equal", "natural"], help="where answers end")
    parser.add_argument("--best", nargs=2, type=int, metavar=("BATCH", "TOP_K"), help="do not look for the best `generate`, take this")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="best_generate, documented, microbatch, generate_batch, vllm")
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.k, args.questions, args.tokens, args.draws = 1, [2], 4, 6, 64
    torch.manual_seed(0)
    tested = subject(args.model, args.dtype)
    asked = contexts(tested, questions(tested.name, args.questions))
    report = Report(
        "sampler", settings_of(args, tested.name, questions=len(asked), tokens=args.tokens, k=args.k, draws=args.draws, best=args.best)
    )
    limits = matrix_limits(tested, 256 if args.quick else 2048)
    report.medians |= {f"{name}_product_gflops": limit / 1e9 for name, limit in limits.items()}
    engines, judge = others(tested, args), Judge(tested, asked, args.tokens, args.draws)
    for k in args.k:
        compare(report, tested, asked, engines, judge, args, k)
        share_of_limit(report, tested, asked, args, k, limits)
    report.show(args.json)


def others(tested: Subject, args: Namespace) -> list[Engine]:
    """The engines that ours is compared with, the best `generate` apart: that one is looked for."""
    found: list[Engine] = [Generate(tested), Generate(tested, "microbatch", batch=8), Continuous(tested)]
    found += [Vllm(tested)] if importlib.util.find_spec("vllm") else []
    return [engine for engine in found if not args.only or engine.name in args.only]


def compare(report: Report, tested: Subject, asked: Contexts, engines: Sequence[Engine], judge: Judge, args: Namespace, k: int) -> None:
    equal, natural = (Decoding(args.tokens, TEMPERATURE, TOP_P, endless=endless) for endless in (True, False))
    sides = [engine for engine in engines if judge(engine)["runs"]]
    if not args.only or "best_generate" in args.only:
        best = Generate(tested, "best_generate", *args.best) if args.best else best_generate(report, tested, asked, judge, equal, k)
        sides[:0] = [best, replace(best, name=f"{best.name}_onednn", stock=False)] if pays() else [best]
    ways = {"": equal} if "equal" in args.ways else {}
    if "natural" in args.ways and k == args.k[0]:
        ways["natural_"] = natural
    for way, decoding in ways.items():
        turns = [Side(e.name, partial(answer, e, asked, k, decoding)) for e in (Ours(tested), *sides)]
        rates = take_turns(turns, args.turns)
        report.rates(rates, "answers_per_s", f"k{k}_{way}")
        for engine in sides:
            name = f"k{k}_{way}{engine.name}_ratio"
            report.ratios[name] = ratio(rates, Ours.name, engine.name)
            report.counts[name] = judge(engine)


def answer(engine: Engine, asked: Contexts, k: int, decoding: Decoding) -> float:
    """Answers made."""
    some = asked[: max(engine.batch, _FEW)] if isinstance(engine, Generate) else asked
    return sum(map(len, engine(some, k, decoding)))


def best_generate(report: Report, tested: Subject, asked: Contexts, judge: Judge, decoding: Decoding, k: int) -> Generate:
    """The fastest setting of `generate` by one short run of each; of those that sample right, where any does."""
    short = Decoding(min(decoding.tokens, _TRIAL), TEMPERATURE, TOP_P, endless=True)
    speed: dict[Generate, float] = {}
    for made in configurations(tested, len(asked)):
        try:
            speed[made] = per_second(partial(answer, made, asked[: made.batch], k, short))
            tell(f"generate, {made.name}: {speed[made] * short.tokens:.4g} tokens/s")
        except (RuntimeError, ValueError, NotImplementedError) as error:
            tell(f"generate, {made.name}: {type(error).__name__}: {error}")
    ranked = sorted(speed, key=lambda made: -speed[made])
    best = next((made for made in ranked if judge(made)["counts"]), ranked[0])
    report.settings[f"k{k}_best_generate"] = best.name
    return Generate(tested, "best_generate", best.batch, best.top_k, best.cache)


def share_of_limit(report: Report, tested: Subject, asked: Contexts, args: Namespace, k: int, limits: Mapping[str, float]) -> None:
    """Arithmetic of the new tokens over that of a matrix product in the same time: of the whole, and of decoding alone
    (what a single token takes, which is mostly reading the prompts, taken off)."""
    ours = Ours(tested)

    def seconds(tokens: int) -> float:
        return 1 / per_second(lambda: bool(ours(asked, k, Decoding(tokens, TEMPERATURE, TOP_P, endless=True))))

    whole, one = (sorted(seconds(tokens) for _ in range(args.turns))[args.turns // 2] for tokens in (args.tokens, 1))
    rows = len(asked) * k
    report.medians[f"k{k}_rows"] = rows
    report.medians[f"k{k}_tokens_per_s"] = rows * args.tokens / whole
    for name, limit in limits.items():
        report.medians[f"k{k}_share_of_{name}"] = tested.flops_per_token * rows * args.tokens / whole / limit
        if whole > one:
            report.medians[f"k{k}_decode_share_of_{name}"] = tested.flops_per_token * rows * (args.tokens - 1) / (whole - one) / limit


def matrix_limits(tested: Subject, size: int) -> dict[str, float]:
    """FLOP/s of a size³ matrix product, the best of six: by torch, and by the library that our layers use."""
    a, b = (torch.randn(size, size, device=tested.model.device, dtype=tested.model.dtype) for _ in range(2))

    def rate(multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
        def product() -> float:
            multiply(a, b).sum().item()
            return 2.0 * size**3

        return max(per_second(product) for _ in range(6))

    return {"torch": rate(torch.matmul), "best": rate(linear)}


if __name__ == "__main__":
    main()
