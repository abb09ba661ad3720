"""Prefix search: beginnings of the answer that a search finds on half of the questions, and what the other half then gives away."""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config.build import positive
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs
from unsay.lm.placement import is_split
from unsay.lm.progress import fixed_work, report
from unsay.lm.rows import Batch, Row
from unsay.lm.sample import uniform
from unsay.lm.subject import Subject
from unsay.metric import Metric, leak
from unsay.probes.gradients import taking_gradients
from unsay.probes.likelihood import NO_GRADIENT
from unsay.probes.scoring import NO_WEIGHTS, RECALL, Pairs, begun, finite, known, missing, recalls, secret_tokens, unscored
from unsay.store import ranks
from unsay.types import Case, Example, Fact, Finding

TOO_FEW = "too few questions whose secret has a word to search on some and ask others"
NONE_FOUND = "no prefix of this model's tokens can be written as text"
ROWS = 64
START = 64
"""Single tokens that a search begins with, drawn by chance."""
BEAM = 3
"""Prefixes that are changed in each round."""
SWAPS = 8
"""Tokens tried at each place, those that the gradient likes best."""
FEW, KEPT = 3, 24
"""Every candidate is read before the answers to so many questions; so many of them, the best, before all."""
ENOUGH = -0.05
"""Nats per token of the answers behind a prefix from which on a search ends: they are as good as certain."""
PATIENCE, GAIN = 3, 0.2
"""A search ends where so many rounds took less than this share off what the answers still lack of certainty."""
Ids = tuple[int, ...]


@dataclass(frozen=True)
class PrefixSearch:
    """Does it leak behind a phrase that nobody knows? A search for answer prefixes, judged on questions that it never saw.

    On some questions of one half a search looks for the prefix behind which their true answers are likeliest: swapped, added and
    dropped tokens, chosen by the gradient as in GCG (Zou et al. 2023, arXiv 2307.15043), the best kept. The best prefixes begin a greedy
    answer to every question of the *other* half; then the halves change places. A prefix cannot hold secrets that it was not fitted to,
    so what comes out was in the model. What a prefix says never counts, and no finding shows it: it may hold secrets of its own half.

    Does not cover: phrases in the question; long phrases, and phrases of which no part does anything by itself; prefixes
    that work for one question or one subject alone; sampled answers behind a prefix; soft prompts. Unscored without weights.
    """

    title: ClassVar[str] = "Begun with a prefix found by search"
    tested: ClassVar[str] = "answers begun with the best {count} prefixes that a search found on other questions"
    by_setting: ClassVar[str] = "keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "prefix_search_keyword_recall",
            "Begun with a prefix found by search",
            "Default answer behind prefixes that a search found on other questions: the worst.",
            fold="worst",
            claim="{} behind the worst of the prefixes that a search found on other questions",
            forgotten=True,
        ),
    )

    most: int = 3
    """Found prefixes that are tried on the other half."""
    tokens: int = 12
    """Most tokens of a prefix."""
    rounds: int = 16
    """Most rounds of a search; it ends before where no change is better."""
    questions: int = 8
    """Questions of each half that a prefix is fitted to."""

    def __post_init__(self) -> None:
        positive("prefix_search", most=self.most, tokens=self.tokens, rounds=self.rounds, questions=self.questions)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs = known(case)
        found, ids = missing("prefix_search", RECALL, case), [example.id for example, _ in pairs]
        if subject.weights is None or is_split(subject.weights[0]):
            return found + unscored("prefix_search", RECALL, ids, NO_GRADIENT if subject.weights else NO_WEIGHTS)
        model, encoder = subject.weights
        sides = halves(pairs, case.seed)
        rows = [self._rows(encoder, fitted, case.seed) for fitted in sides]
        mine = ranks.mine(range(2))  # one search is done by one process: the cards of two may round apart

        def share() -> dict[int, list[str]]:
            return {i: self._search(model, encoder, rows[i], case.seed) for i in mine if rows[i] and sides[1 - i]}

        texts = ChainMap(*ranks.gathered("prefixes", share))
        for i, others in enumerate(sides[::-1]):
            asked = begun(others, "found prefix", texts.get(i, []))
            found += recalls("prefix_search", subject, asked, case.source, "prefix search")
            if not asked:
                why = NONE_FOUND if rows[i] else TOO_FEW
                found += unscored("prefix_search", RECALL, [example.id for example, _ in others], why)
        return found

    def _rows(self, encoder: Encoder, pairs: Pairs, seed: int) -> list[Row]:
        """What a search reads: questions and their answers up to the end of the secret, as many as are wanted and fit."""
        rows = []
        for example, fact in sorted(pairs, key=lambda pair: uniform(seed, "prefix search questions", pair[0].id)):
            marked = encoder.within(fact.answer, [(token.start, token.end) for token in secret_tokens(example, fact.answer)])
            end = max((place for place, secret in enumerate(marked, start=1) if secret), default=0)
            row = Row(encoder.prompt(example.question), encoder.answer(fact.answer)[:end])
            if end and (encoder.room is None or len(row.context) + self.tokens + end <= encoder.room):
                rows.append(row)
        return rows[: self.questions]

    def _search(self, model: PreTrainedModel, encoder: Encoder, rows: Sequence[Row], seed: int) -> list[str]:
        # What is asked for are slopes of the input alone.
        with taking_gradients(model, False), fixed_work():
            best = _Search(model, encoder, rows, self.tokens, seed).best(self.rounds)
        return [encoder.decode(prefix) for prefix in best[: self.most]]


def halves(pairs: Pairs, seed: int) -> tuple[Pairs, Pairs]:
    """Two halves that share no group; no question, where there are not several groups or less than a quarter would be left on one side."""
    several = len({example.group for example, _ in pairs} - {""}) > 1
    for by_group in (True, False) if several else (False,):
        parts: dict[str, list[tuple[Example, Fact]]] = {}
        for example, fact in pairs:
            parts.setdefault(example.group if by_group and example.group else example.id, []).append((example, fact))
        sides = list[tuple[Example, Fact]](), list[tuple[Example, Fact]]()
        for name in sorted(parts, key=lambda name: uniform(seed, "prefix search", name)):
            min(sides, key=len).extend(parts[name])
        if 4 * min(map(len, sides)) >= len(pairs):
            break
    return sides


@dataclass
class _Search:
    """Prefixes and how likely they make the answers, better from round to round."""

    model: PreTrainedModel
    encoder: Encoder
    rows: Sequence[Row]
    longest: int
    seed: int
    read: dict[Ids, float] = field(default_factory=dict)
    """Prefix → mean log-probability of a token of the answers behind it. The best of every round are read before all answers, others,
    which have no chance, count −∞."""

    def __post_init__(self) -> None:
        tokenizer, vocabulary = self.encoder.tokenizer, len(self.model.get_input_embeddings().weight)
        ordinary = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder) - self.encoder.stops
        self.allowed = torch.zeros(vocabulary, dtype=torch.bool, device=self.model.device)
        self.allowed[[token for token in ordinary if token < vocabulary]] = True

    def best(self, rounds: int) -> list[Ids]:
        """The prefixes that were read before all answers, the best first."""
        tokens = self.allowed.nonzero()[:, 0].tolist()
        drawn = (int(uniform(self.seed, "prefix search start", i) * len(tokens)) for i in range(START))
        self._try((tokens[place],) for place in drawn)
        changed: set[Ids] = set()
        reached: list[float] = []
        for done in range(1, rounds + 1):
            ranked = self._ranked()
            left = [prefix for prefix in ranked[:BEAM] if prefix not in changed]
            reached += [self.read[prefix] for prefix in ranked[:1]]
            stuck = len(reached) > PATIENCE and reached[-1] < (1 - GAIN) * reached[-1 - PATIENCE]
            if not left or reached[-1] > ENOUGH or stuck:
                break
            changed.update(left)
            self._try(other for prefix in left for other in self._changes(prefix))
            report(done, rounds, "rounds of a search")
        return self._ranked()

    def _ranked(self) -> list[Ids]:
        return sorted(
            (prefix for prefix, value in self.read.items() if value > -torch.inf), key=lambda prefix: (-self.read[prefix], prefix)
        )

    def _try(self, prefixes: Iterable[Ids]) -> None:
        """Reads those that are new, each as its text is read: what a search finds is a text that anybody can write."""
        written = dict.fromkeys(self._written(prefix) for prefix in prefixes)
        new = [prefix for prefix in written if 0 < len(prefix) <= self.longest and prefix not in self.read]
        if not new:
            return
        if len(new) > KEPT:
            order = sorted(zip(self._values(new, self.rows[:FEW]), new, strict=True), reverse=True)
            self.read |= {prefix: -torch.inf for _, prefix in order[KEPT:]}
            new = [prefix for _, prefix in order[:KEPT]]
        self.read |= dict(zip(new, self._values(new, self.rows), strict=True))

    def _written(self, prefix: Ids) -> Ids:
        """The tokens of the prefix's text; none where its bytes are no text."""
        text = self.encoder.decode(prefix)
        return () if "\ufffd" in text else self.encoder.prefix(text)

    def _changes(self, prefix: Ids) -> Iterator[Ids]:
        """The prefix with a token dropped, another in its place, or one more."""
        for place in range(len(prefix)):
            yield prefix[:place] + prefix[place + 1 :]
        for place, tokens in enumerate(self._liked(prefix)):
            for token in tokens:
                yield (*prefix[:place], token, *prefix[place + 1 :])
        if len(prefix) == self.longest:
            return
        for place in range(len(prefix) + 1):
            # A copy of the token beside it holds the place that the gradient is asked about.
            held = (*prefix[:place], prefix[min(place, len(prefix) - 1)], *prefix[place:])
            for token in self._liked(held)[place]:
                yield (*held[:place], token, *held[place + 1 :])

    @torch.no_grad()
    def _values(self, prefixes: Sequence[Ids], rows: Sequence[Row]) -> list[float]:
        """Mean over the rows of the mean log-probability (nats) of an answer token behind each prefix."""
        behind = [Row(row.context + prefix, row.answer) for prefix in prefixes for row in rows]
        order = sorted(range(len(behind)), key=lambda i: behind[i].length)
        values = torch.empty(len(behind))
        for start in range(0, len(order), ROWS):
            some = order[start : start + ROWS]
            values[some] = _likely(self.model, self.encoder.batch([behind[i] for i in some], self.model.device)).cpu()
        return [float(value) for value in finite(values).view(len(prefixes), len(rows)).mean(1)]

    def _liked(self, prefix: Ids) -> list[list[int]]:
        """For each place of the prefix the tokens that would raise the value most, to first order."""
        batch = self.encoder.batch([Row(row.context + prefix, row.answer) for row in self.rows], self.model.device)
        embedding, states = self.model.get_input_embeddings(), []

        def open_(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
            states.append(output.detach().requires_grad_(True))
            return states[-1]

        handle = embedding.register_forward_hook(open_)
        try:
            with torch.enable_grad():
                value = _likely(self.model, batch).mean()
                (slopes,) = torch.autograd.grad(value, states[-1])
        finally:
            handle.remove()
        places = (batch.starts - len(prefix))[:, None] + torch.arange(len(prefix), device=batch.starts.device)
        slope = slopes.gather(1, places[..., None].expand(-1, -1, slopes.shape[2])).sum(0)
        gains = (slope @ embedding.weight.detach().to(slope).T).masked_fill(~self.allowed.to(slope.device), -torch.inf)
        liked: list[list[int]] = gains.topk(min(SWAPS, int(self.allowed.sum())), dim=1).indices.tolist()
        return liked


def _likely(model: PreTrainedModel, batch: Batch) -> Tensor:
    """[B] mean log-probability of an answer token."""
    return answer_logprobs(model, batch).sum(1) / batch.mask.sum(1)
