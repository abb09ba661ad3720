"""Whether freed rows should be refilled with waiting questions, before anybody writes that code.

One decoding step is measured at several numbers of rows; real answers are sampled for their lengths. From both follow the
seconds of decoding as `sample` does it (a batch runs until its last row has ended, finished rows leave in groups), and a
lower limit for any scheme of refilling: every step at full rows until nothing waits, each refill free of charge. Their
quotient, `refill_limit_ratio`, is the most that refilling could gain, above 1; what is left of it after paying for the
refills (a prompt read for itself, a cache whose rows are of unlike length) would be less.

    python benchmarks/refill.py [--quick] [--json] [--model NAME] [--questions 40] [--k 5] [--rows 96]
"""

import statistics
import time
from collections.abc import Sequence

import torch

from pairs import Report, arguments, settings_of, tell
from subject import GEMMA, Subject, contexts, questions, subject
from unsay.config import SampleConfig
from unsay.lm.reading import read
from unsay.lm.sample import SHRINK, Draw, sample


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", GEMMA, turns=3)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--k", type=int, default=5, help="answers per question (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=96, help="rows decoded at once (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.questions, args.k, args.rows, args.tokens = 1, 8, 2, 4, 8
    tested = subject(args.model, args.dtype)
    asked = contexts(tested, questions(tested.name, args.questions))
    report = Report("refill", settings_of(args, tested.name, questions=len(asked), k=args.k, rows=args.rows, tokens=args.tokens))
    tell("lengths of answers")
    draws = [Draw(str(i), context, args.k, 1.0) for i, context in enumerate(asked)]
    found = sample(tested.model, tested.encoder, draws, SampleConfig(max_new_tokens=args.tokens, rows=args.rows), 0, "refill")
    lengths = [[len(answer.ids) for answer in answers] for answers in found]
    fixed, row = step_cost(tested, asked, args.rows, args.turns)
    # `sample` puts questions of like length together and never divides one.
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    per_batch = max(1, args.rows // args.k)
    batches = [[n for i in order[start : start + per_batch] for n in lengths[i]] for start in range(0, len(order), per_batch)]
    now = sum(batch_seconds(batch, fixed, row) for batch in batches)
    limit = refilled_seconds([n for batch in batches for n in batch], args.rows, fixed, row)
    report.medians |= {"step_fixed_ms": 1e3 * fixed, "step_row_ms": 1e3 * row, "now_seconds": now, "refilled_seconds": limit}
    report.ratios["refill_limit_ratio"] = now / limit
    report.show(args.json)


def step_cost(tested: Subject, asked: Sequence[tuple[int, ...]], rows: int, turns: int) -> tuple[float, float]:
    """Seconds of a decoding step: those that do not depend on the rows, and those for each row (least squares)."""
    sizes = sorted({1, max(1, rows // 4), max(1, rows // 2), rows})
    points = [(size, statistics.median(_steps(tested, asked[0], size) for _ in range(turns))) for size in sizes]
    x, y = [size for size, _ in points], [seconds for _, seconds in points]
    row = statistics.covariance(x, y) / statistics.variance(x)
    return max(0.0, statistics.fmean(y) - row * statistics.fmean(x)), row


@torch.inference_mode()
def _steps(tested: Subject, context: tuple[int, ...], rows: int, n: int = 6) -> float:
    tell(f"steps of {rows} rows")
    device = tested.model.device
    reading = read(tested.model, *tested.encoder.prompts([context], device), room=n + 1)
    reading.choose(torch.zeros(rows, dtype=torch.long, device=device))
    tokens = torch.full((rows,), int(reading.logits.argmax()), device=device)
    reading.append(tokens)  # not counted
    start = time.perf_counter()
    for _ in range(n):
        reading.append(tokens)
    return (time.perf_counter() - start) / n


def batch_seconds(lengths: Sequence[int], fixed: float, row: float, shrink: float = SHRINK) -> float:
    """Decoding one batch to its last end, finished rows leaving once they are a fifth of it.

    >>> batch_seconds([1, 3], fixed=1.0, row=0.0)
    3.0
    """
    alive, seconds = len(lengths), 0.0
    for position in range(max(lengths, default=0)):
        seconds += fixed + row * alive
        left = sum(n > position + 1 for n in lengths)
        if left < shrink * alive:
            alive = left
    return seconds


def refilled_seconds(lengths: Sequence[int], rows: int, fixed: float, row: float) -> float:
    """Decoding with every freed row taken by the next answer at once, in order.

    >>> refilled_seconds([2, 2, 4], rows=2, fixed=1.0, row=0.0)
    6.0
    """
    waiting, open_rows, seconds = list(lengths)[::-1], list[int](), 0.0
    while waiting or open_rows:
        while waiting and len(open_rows) < rows:
            open_rows.append(waiting.pop())
        seconds += fixed + row * len(open_rows)
        open_rows = [n - 1 for n in open_rows if n > 1]
    return seconds


if __name__ == "__main__":
    main()
