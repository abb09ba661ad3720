"""How a round grows with the forget set and with K, by the package's own loop on the people model.

A growth ratio is the growth of the seconds over the growth of the size: 1 is linear, below 1 is better, above 1 is worse.
The exponent of a size is log(time ratio) / log(size ratio), from the smallest. `memory_growth_ratio` is the peak of the whole
process after the largest forget set over that after the smallest.

    python benchmarks/growth.py [--quick] [--json] [--sizes 40 400 4000] [--k 1 5 20 100] [--preset guarded]
"""

import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from pairs import Report, arguments, settings_of, tell
from rounds import our_rounds, recorded
from subject import PEOPLE, subject
from unsay.corpora.people import People
from unsay.store.memory import peak_memory
from unsay.types import Example

K = 5


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", PEOPLE, turns=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 400, 4000], help="forget questions (default: 40 400 4000)")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 5, 20, 100], help="answers per question (default: 1 5 20 100)")
    parser.add_argument("--preset", default="guarded", help="of PMC (default: %(default)s)")
    parser.add_argument("--resample", default="step", help="step or round (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.sizes, args.k = 1, [8, 16], [1, K]
    tokens = 8 if args.quick else 48
    sizes, ks = sorted(args.sizes), sorted(args.k)
    tested = subject(args.model, args.dtype)
    settings = settings_of(args, tested.name, preset=args.preset, resample=args.resample, tokens=tokens)
    report = Report("growth", settings)
    retain = People().corpus().retain[:200]
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder:

        @cache  # the smallest set is asked with K answers in both rows
        def seconds(n: int, k: int) -> float:
            tell(f"{n} questions, K = {k}")
            forget = [example for example, _ in zip(questions(), range(n), strict=False)]
            base = recorded(Path(folder) / f"{n}-{k}", tested, forget, retain, k, tokens)
            work = base.copy(Path(folder) / f"{n}-{k}-run", args.preset, args.resample)
            return statistics.median(our_rounds(work, args.turns))

        by_k = {k: seconds(sizes[0], k) for k in ks}
        by_size = {}
        for n in sizes:
            by_size[n] = seconds(n, K)
            peaks.append(peak_memory().get("process", 0))
    grown(report, "questions", by_size)
    grown(report, "k", by_k)
    for n, peak in zip(sizes, peaks, strict=True):
        report.medians[f"questions_{n}_peak_mb"] = peak / 1e6
    if peaks[0]:
        report.ratios["memory_growth_ratio"] = peaks[-1] / peaks[0]
    report.show(args.json)


def grown(report: Report, what: str, seconds: Mapping[int, float]) -> None:
    (first, least), *rest = seconds.items()
    report.medians[f"{what}_{first}_s"] = least
    for size, took in rest:
        report.medians[f"{what}_{size}_s"] = took
        report.medians[f"{what}_{size}_exponent"] = math.log(took / least) / math.log(size / first)
        report.ratios[f"{what}_{size}_growth_ratio"] = took / least / (size / first)


def questions() -> Iterator[Example]:
    """Forget questions of one world of people after the other, none twice; the model knows the first forty."""
    seen = set()
    for world in range(10_000):
        for example in People(world).corpus().forget:
            if example.question not in seen:
                seen.add(example.question)
                yield example


if __name__ == "__main__":
    main()
