"""A training step's rows cut into batches of like length, against all of them in one batch.

The rows are questions that the model is asked, twice as many general questions, each with its answer, and a text for each sixth.

    python benchmarks/padding.py [--quick] [--json] [--model NAME] [--questions 16] [--turns 5]
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice

from pairs import Report, Side, arguments, ratio, settings_of, take_turns
from subject import PEOPLE, Subject, questions, subject
from unsay.corpora import general
from unsay.lm.model import answer_logprobs
from unsay.lm.rows import Row
from unsay.probes import unrelated
from unsay.train.step import less_padded

Cut = Callable[[Sequence[Row]], Iterator[Sequence[Row]]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", PEOPLE, turns=5)
    parser.add_argument("--questions", type=int, default=16)
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.questions = 1, 4
    tested = subject(args.model, args.dtype)
    rows = _rows(tested, args.questions)
    ways: dict[str, Cut] = {"cut": less_padded, "whole": _whole}
    padded = {name: sum(len(some) * max(row.length for row in some) for some in cut(rows)) for name, cut in ways.items()}
    report = Report("padding", settings_of(args, tested.name, rows=len(rows), tokens=sum(row.length for row in rows), padded=padded))
    rates = take_turns([Side(name, partial(_step, tested, rows, cut)) for name, cut in ways.items()], args.turns)
    report.rates(rates, "tokens_per_s")
    report.ratios["cut_ratio"] = ratio(rates, "cut", "whole")
    report.show(args.json)


def _rows(tested: Subject, n: int) -> list[Row]:
    encoder = tested.encoder
    asked = [encoder.pair(question, question) for question in questions(tested.name, n)]
    kept = [encoder.pair(pair.question, pair.answer) for pair in islice(cycle(general.load()), 2 * n)]
    return asked + kept + [encoder.pair(None, piece) for piece in unrelated.windows(unrelated.built_in(), 24)[: -(-n // 6)]]


def _whole(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    yield rows


def _step(tested: Subject, rows: Sequence[Row], cut: Cut) -> float:
    """A forward and backward pass over every batch; tokens, padding left out."""
    tested.model.zero_grad(set_to_none=True)
    for some in cut(rows):
        batch = tested.encoder.batch(some, tested.model.device, of=rows)
        batch.mean(-answer_logprobs(tested.model, batch), "retain").backward()
    return float(sum(row.length for row in rows))


if __name__ == "__main__":
    main()
