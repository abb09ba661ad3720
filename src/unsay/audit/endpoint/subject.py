"""A served model under the protocol of a probe: text in, text out, no likelihoods, no weights.

The random numbers are the server's, so a second audit gives other samples; what the server does to a prompt on its way (its template,
its filters, its own top-k) is part of what is audited.

Two things that servers do silently would make an audit wrong, so harmless questions try them first: not to *continue* an answer begun
for it, and to answer the same at every temperature. Then `Unaskable` is raised and the probe is unscored.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from unsay.audit.endpoint.client import Client, EndpointConfig, Refused
from unsay.config import SampleConfig
from unsay.lm.sample import uniform
from unsay.lm.subject import Prompt, Unaskable
from unsay.text import words
from unsay.types import Answer

HARMLESS = ("What is the capital of France?", "Name the seven days of the week.", "Why is the sky blue?")
"""Asked to see what a server can do."""
THREADS = 4
"""Requests at once."""
DRAWS = 8
"""Most answers asked for in one request."""
LOOKS = 4
"""Answers to one question that show whether it samples."""
HOT = (2.0, 1.0)
"""Temperatures at which a server must vary its answers; the second for servers that allow no more."""
CONTINUE: tuple[Mapping[str, bool], ...] = ({"continue_final_message": True, "add_generation_prompt": False}, {})
"""Ways to have a trailing assistant message continued: vLLM's and SGLang's; llama.cpp's, which needs no word."""
NO_PREFILL = "this server does not continue an answer that is begun for it"
NO_BARE_TEXT = "this server writes its chat template around everything"
REFUSED = "this server refused one of the prompts"
NO_SAMPLING = "this server gives the same answer every time, whatever the temperature"


class EndpointSubject:
    """A model at a URL, as `unsay.lm.subject.Subject` wants it. Raises `EndpointError` where the server cannot be used."""

    weights: None = None

    def __init__(
        self, config: EndpointConfig, sample: SampleConfig, seed: int = 0, system_prompt: str = "", harmless: Sequence[str] = HARMLESS
    ):
        """`harmless`: questions that may be asked to see what the server can do; three of our own come after them."""
        self.config, self.seed, self.harmless = config, seed, (*harmless, *HARMLESS)
        self._client = Client(config, sample.max_new_tokens, system_prompt)
        self._seeded, self._several = True, True
        self._greedy: dict[Prompt, Answer] = {}

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        self.hello()
        if temperature > 0 and not self.samples:
            raise Unaskable(NO_SAMPLING)
        if any(prompt.prefix for prompt in prompts) and self.continues is None:
            raise Unaskable(NO_PREFILL)
        if any(prompt.question is None for prompt in prompts) and self.config.api == "chat":
            raise Unaskable(NO_BARE_TEXT)
        pool = ThreadPoolExecutor(THREADS)
        try:
            return list(pool.map(lambda prompt: self._answers(prompt, n if temperature > 0 else 1, temperature, top_p, salt), prompts))
        except Refused:
            if temperature > 1:  # many servers take nothing hotter, and have answered at 1
                raise Unaskable(f"this server refuses the temperature {temperature:g}") from None
            raise Unaskable(REFUSED) from None  # it has answered other questions: the other probes may go on
        finally:  # after a mistake the rest need not be asked
            pool.shutdown(cancel_futures=True)

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> None:
        return None

    # -- what the server can do, found out by trying ------------------------------------------------------------------

    @cached_property
    def samples(self) -> bool:
        """Whether its answers vary when they should. Also finds out which options it takes."""
        self.hello()
        for hot in HOT:
            taken = False
            # Trap: one seed for all n answers of a request makes them one answer, so what does not vary is tried without.
            for self._several, self._seeded in itertools.product((True, False), (True, False)):
                try:
                    for question in (self.harmless[-1], self.harmless[0]):
                        found = self._answers(Prompt(question, question), LOOKS, hot, 1.0, "hello")
                        if len({answer.text for answer in found}) > 1:
                            return True
                    taken = True
                except Refused:
                    continue
            if taken:
                break
        return False

    @cached_property
    def continues(self) -> Mapping[str, bool] | None:
        """The options with which it continues an answer that is begun for it; `None` where it does not."""
        if self.config.api == "completions":
            return {}
        self.hello()
        return next((way for way in CONTINUE if self._continues(way)), None)

    def _continues(self, way: Mapping[str, bool]) -> bool:
        """Cut its own greedy answers in two and see whether it goes on where the cut is. One that it begins again fails."""
        tried = gone_on = 0
        for question in self.harmless:
            whole = self._answers(Prompt(question, question), 1, 0.0, 1.0, "")[0].text
            starts = [match.start() for match in re.finditer(r"\S+", whole)]
            if len(starts) < 4:
                continue
            cut = starts[len(starts) // 2]
            expected = words(whole[cut:])[:2]
            if not expected or expected == words(whole)[:2]:
                continue  # going on and beginning again would look the same
            try:
                said = self._client.send(Prompt(question, question, whole[:cut].rstrip()), way=way)[0].text
            except Refused:
                return False
            tried, gone_on = tried + 1, gone_on + (words(said)[: len(expected)] == expected)
            if tried == 3:
                break
        return tried > 0 and 2 * gone_on >= tried

    def hello(self) -> None:
        """One harmless question, so that a wrong address or key shows before anything else is sent."""
        prompt = Prompt(self.harmless[0], self.harmless[0])
        try:
            self._answers(prompt, 1, 0.0, 1.0, "")
        except Refused as refused:
            self._client.limit = "max_completion_tokens"  # what some models of the original server insist on
            try:
                self._answers(prompt, 1, 0.0, 1.0, "")
            except Refused:
                raise refused from None

    def about(self) -> dict[str, str]:
        """For the manifest: what was asked, and what it could do. No key, no user, no prompt."""
        tried = self.__dict__  # only what an audit had to find out
        sampling = "not tried" if "samples" not in tried else "yes" if self.samples else "no"
        prefill = "not tried" if "continues" not in tried else "yes" if self.continues is not None else "no"
        seed = "not tried" if sampling != "yes" else "passed" if self._seeded else "refused"
        names = {"url": self.config.shown, "model": self._client.model, "api": self.config.api}
        return names | {"sampling": sampling, "prefill": prefill, "seed": seed}

    # -- asking -------------------------------------------------------------------------------------------------------

    def _answers(self, prompt: Prompt, n: int, temperature: float, top_p: float, salt: str) -> list[Answer]:
        if temperature == 0 and prompt in self._greedy:
            return [self._greedy[prompt]]  # the audit asks twice, and the server need not say the same again
        way = self.continues if prompt.prefix else None
        found: list[Answer] = []
        while len(found) < n:
            wanted = min(n - len(found), DRAWS) if self._several else 1
            seed = int(2**31 * uniform(self.seed, salt, prompt.key, prompt.prefix, len(found)))
            passed = seed if temperature > 0 and self._seeded else None
            found += self._client.send(prompt, wanted, temperature, top_p, passed, way)[:wanted]
        if temperature == 0:
            self._greedy[prompt] = found[0]
        return found
