"""Holds every sampler against ours and against the model's own logits, once (proof.py says how)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from engines import Decoding, Engine, Generate, Ours
from pairs import tell
from proof import by_first, chi_square, equal_share, nucleus_of, p_value, verdict
from subject import Subject

TEMPERATURE, TOP_P = 1.25, 0.95
_AT_ONCE = 64
_QUESTIONS = 2
"""Questions whose frequencies are tested."""
_LEAST_DRAWN = 20
"""The second token is tested after first tokens that were drawn so often."""


class Judge:
    def __init__(self, tested: Subject, asked: Sequence[tuple[int, ...]], tokens: int, draws: int):
        self.tested, self.asked, self.tokens, self.draws = tested, asked, tokens, draws
        self._verdicts: dict[str, dict[str, Any]] = {}
        self._p_values: dict[str, tuple[float | None, float | None]] = {}
        self._greedy = self._answers(Ours(tested))

    def __call__(self, engine: Engine) -> dict[str, Any]:
        """Whether a ratio to this engine counts, and why; `runs` says whether it runs here at all."""
        if engine.name not in self._verdicts:
            tell(f"checking {engine.name}")
            try:
                found = self._judge(engine)
            except (RuntimeError, ValueError, NotImplementedError, ImportError, AttributeError) as error:
                found = {"counts": False, "why": f"{type(error).__name__}: {error}", "runs": False}
                tell(f"{engine.name} does not run here: {found['why']}")
            self._verdicts[engine.name] = found
        return self._verdicts[engine.name]

    def _judge(self, engine: Engine) -> dict[str, Any]:
        greedy = equal_share(self._greedy, self._answers(engine), self.tested.encoder.stops)
        first, second = zip(self._frequencies(Ours(self.tested)), self._frequencies(engine), strict=True)
        return {**verdict(greedy, first, second), "runs": True}

    def _answers(self, engine: Engine) -> list[list[int]]:
        return [found[0] for found in engine(self.asked, 1, Decoding(self.tokens))]

    def _frequencies(self, engine: Engine) -> tuple[float | None, float | None]:
        """p-values: the first token's, and the second's given the first."""
        # However many prompts a call of `generate` takes, it samples alike.
        kind = f"generate {engine.top_k} {engine.cache}" if type(engine) is Generate else engine.name
        if kind not in self._p_values:
            self._p_values[kind] = self._test(engine)
        return self._p_values[kind]

    def _test(self, engine: Engine) -> tuple[float | None, float | None]:
        firsts, seconds = [], []
        for context in self.asked[:_QUESTIONS]:
            drawn: list[list[int]] = []
            while len(drawn) < self.draws:
                drawn += engine([context], min(_AT_ONCE, self.draws), Decoding(2, TEMPERATURE, TOP_P, endless=True))[0]
            firsts.append(chi_square(Counter(ids[0] for ids in drawn), self._expected(context)))
            for first, counts in by_first(drawn, _LEAST_DRAWN).items():
                seconds.append(chi_square(counts, self._expected((*context, first))))
        return p_value(firsts), p_value(seconds)

    @torch.inference_mode()
    def _expected(self, context: tuple[int, ...]) -> dict[int, float]:
        ids = torch.tensor([context], device=self.tested.model.device)
        return nucleus_of(self.tested.model(input_ids=ids, use_cache=False).logits[0, -1].float(), TEMPERATURE, TOP_P)
