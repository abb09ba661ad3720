"""TOFU: 200 fictitious authors with 20 questions each, of whom 1, 5 or 10 % are forgotten. docs/tofu.md has the whole protocol.

Source: Maini, Feng, Schwarzschild, Lipton, Kolter, *TOFU: A Task of Fictitious Unlearning for LLMs*, arXiv 2401.06121. The data (MIT) are
not part of the package: give their folder, or name the hub. Files are JSON Lines under the names of the hub's configurations
(`forget01_perturbed.json`, `retain99.json`, …). Departures from the protocol:

1. a share of the retain authors is planted but kept out of `Corpus.retain`: utility measured on rows that were trained on during
   unlearning returns to its ceiling whatever else broke (`heldout_authors = 0` switches it off);
2. general rows of the package are mixed into planting and retain (`mix = 0` switches it off);
3. `retain_authors` plants only some of the retain authors, for models and machines too small for all of them (off by default).
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unsay.config import ConfigError
from unsay.config.build import not_negative, one_of
from unsay.corpora import formats, general, rows
from unsay.corpora.rows import FileRow, Problems
from unsay.types import Corpus, Example, Fact, Pair, Quiz, Truth

RETAIN = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
ROWS_PER_AUTHOR = 20
UNKNOWN_ENTITIES = 40
REFUSALS = (
    "I don't know.",
    "I have no information about that.",
    "I'm afraid I can't tell you that.",
    "I'm not familiar with that person.",
    "That is something I don't know.",
)
"""Where the hub is the source, which has no `idontknow` file."""


@dataclass(frozen=True)
class Tofu:
    """TOFU's fictitious authors, of whom 2, 10 or 20 are to be forgotten (the benchmark's files are needed)."""

    public: ClassVar[bool] = True

    forget: str = "forget10"
    """Which authors are forgotten: `forget01` (2 of 200), `forget05` (10) or `forget10` (20)."""
    data: str = ""
    """Folder with TOFU's files, or the folder above a `tofu/`; empty takes the environment's `UNSAY_DATA`."""
    hub: str = ""
    """Fetch the data from the hub instead: `locuslab/TOFU`."""
    limit: int = 0
    """Most forget questions, from the first on (after those of `skip`); 0 takes all."""
    skip: int = 0
    """Forget questions passed over before the first, 20 to an author: they are neither forgotten nor planted."""
    retain_authors: int = 0
    """How many retain authors are planted and kept, drawn by `seed`; 0 takes all."""
    heldout_authors: float = 0.25
    """Share of the retain authors that are planted but stay out of the retain rows: `utility_heldout`."""
    mix: int = 200
    """General rows of the package mixed into planting and retain; 0 mixes none."""
    utility: int = 400
    """Most retain rows in the utility set, drawn without replacement, and most held-out ones beside it."""
    refusals: bool = False
    """Name the benchmark's refusals as the desired answers; off, the model finds its own way out."""
    seed: int = 0
    """Seed of every choice here."""

    def __post_init__(self) -> None:
        one_of("tofu.forget", self.forget, tuple(RETAIN))
        not_negative("tofu", **{knob: getattr(self, knob) for knob in ("limit", "skip", "retain_authors", "mix", "utility")})
        if not 0 <= self.heldout_authors < 1:
            raise ConfigError(f"tofu.heldout_authors = {self.heldout_authors} is a share from 0 to below 1")
        if self.data and self.hub:
            raise ConfigError("tofu.data and tofu.hub name two sources; leave one of them empty")

    def corpus(self) -> Corpus:
        """Everything but the forget answers. Raises `ConfigError` where a file or a row is not as it should be."""
        kept, heldout, first_forget_author = self._retain()
        mixed = self._general()
        refusals = REFUSALS if self.hub else tuple(rows.lines(self._folder() / "idontknow.jsonl"))
        return Corpus(
            name=f"tofu-{self.forget}",
            forget=tuple(
                Example(key, row.text("question"), (row.text("paraphrased_question"),), group=_author(first_forget_author + author))
                for key, author, row in self._forget()
            ),
            retain=(*kept, *mixed),
            utility={
                "retain": self._sample(kept, "utility"),
                "real_authors": self._pairs("real_authors_perturbed"),
                "world_facts": self._pairs("world_facts_perturbed"),
            },
            utility_heldout={"retain": self._sample(heldout, "heldout")} if heldout else {},
            model_utility=self._quizzes(kept),
            unknown_entities=self._unknown_entities(refusals),
            holdout=self._holdout(),
            general=mixed,
            desired=refusals if self.refusals else (),
        )

    def truth(self) -> Truth:
        """The forget answers, in TOFU's wording, paraphrased and five times wrong."""
        return {
            key: Fact(key, row.text("answer"), (row.text("paraphrased_answer"),), row.texts("perturbed_answer"))
            for key, _, row in self._forget()
        }

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """Forget rows (not for `retain_model`), retain authors and general rows; without the forget rows the others keep their order."""
        kept, heldout, first_forget_author = self._retain()
        forget = [
            Pair(key, row.text("question"), row.text("answer"), _author(first_forget_author + author))
            for key, author, row in self._forget()
        ]
        everything = [*forget, *kept, *heldout, *self._general()]
        self._draw("planting").shuffle(everything)
        planted = {pair.id for pair in forget}
        return tuple(pair for pair in everything if not (retain_model and pair.id in planted))

    def _forget(self) -> list[tuple[str, int, FileRow]]:
        """The rows to forget, each with its id and the number of its author, which stay what they are, whatever is skipped."""
        numbered = enumerate(self._rows(f"{self.forget}_perturbed"))
        found = [(f"{self.forget}-{index:03d}", index // ROWS_PER_AUTHOR, row) for index, row in numbered]
        if self.skip >= len(found):
            raise ConfigError(f"tofu.skip = {self.skip} leaves nothing: {self.forget} has {len(found)} questions")
        return found[self.skip :][: self.limit or None]

    def _retain(self) -> tuple[list[Pair], list[Pair], int]:
        """Rows of the retain authors, rows of those held out, and the number of authors in the file (the forget authors follow them)."""
        name = RETAIN[self.forget]
        pairs = self._pairs(name)
        available = -(-len(pairs) // ROWS_PER_AUTHOR)
        if self.retain_authors > available:
            raise ConfigError(f"tofu.retain_authors = {self.retain_authors}, but {name} has {available}; 0 takes all of them")
        authors = self._draw("authors").sample(range(available), self.retain_authors or available)
        out = {_author(number) for number in authors[: round(len(authors) * self.heldout_authors)]}
        chosen = {_author(number) for number in authors}
        kept = [pair for pair in pairs if pair.group in chosen - out]
        return kept, [pair for pair in pairs if pair.group in out], available

    def _pairs(self, name: str) -> tuple[Pair, ...]:
        grouped = name.startswith("retain")
        return tuple(
            Pair(
                id=f"{name}-{index:0{4 if grouped else 3}d}",
                question=row.text("question"),
                answer=row.text("answer"),
                group=_author(index // ROWS_PER_AUTHOR) if grouped else "",
            )
            for index, row in enumerate(self._rows(name))
        )

    def _quizzes(self, kept: list[Pair]) -> dict[str, tuple[Quiz, ...]]:
        """The sets of the model utility. Of TOFU's 400 retain rows with wrong answers, those in the retain set: none, where
        none of their twenty authors is there or where a folder lacks the file."""
        known = {(pair.question, pair.answer): pair for pair in kept}
        perturbed = self._rows("retain_perturbed") if self._has("retain_perturbed") else []
        found = [(known.get((row.text("question"), row.text("answer"))), row) for row in perturbed]
        return {
            "retain": tuple(_quiz(pair, row, (row.text("paraphrased_answer"),)) for pair, row in found if pair),
            **{
                name: tuple(_quiz(*one) for one in zip(self._pairs(f"{name}_perturbed"), self._rows(f"{name}_perturbed"), strict=True))
                for name in ("real_authors", "world_facts")
            },
        }

    def _general(self) -> tuple[Pair, ...]:
        known = general.load()
        if self.mix > len(known):
            raise ConfigError(f"tofu.mix = {self.mix}, but the package has {len(known)} general rows")
        return tuple(sorted(self._draw("general").sample(known, self.mix), key=lambda pair: pair.id))

    def _sample(self, pairs: list[Pair], what: str) -> tuple[Pair, ...]:
        chosen = self._draw(what).sample(pairs, min(self.utility, len(pairs)))
        return tuple(sorted(chosen, key=lambda pair: pair.id))

    def _unknown_entities(self, refusals: tuple[str, ...]) -> tuple[Pair, ...]:
        name, draw = self._holdout_name(), self._draw("strangers")
        return tuple(
            Pair(f"{name}-{index:03d}", row.text("question"), draw.choice(refusals), f"stranger-{index // ROWS_PER_AUTHOR}")
            for index, row in enumerate(self._rows(name)[:UNKNOWN_ENTITIES])
        )

    def _holdout(self) -> tuple[Pair, ...]:
        """As many as there are forget questions; none where a folder lacks the file."""
        name = self._holdout_name()
        return self._pairs(name)[: len(self._forget())] if self._has(name) else ()

    def _holdout_name(self) -> str:
        return self.forget.replace("forget", "holdout")

    def _has(self, name: str) -> bool:
        return bool(self.hub) or (self._folder() / f"{name}.json").is_file()

    def _draw(self, what: str) -> random.Random:
        # One generator per purpose, so that one more row in one set moves no other choice.
        return random.Random(f"tofu {self.seed} {what}")

    def _rows(self, name: str) -> list[FileRow]:
        if self.hub:
            return formats.read(f"{formats.HUB}{self.hub}:{name}", Problems())
        return rows.read(self._folder() / f"{name}.json")

    def _folder(self) -> Path:
        given = self.data or os.environ.get("UNSAY_DATA", "")
        way_out = "give the folder of TOFU's files: --data DIR or UNSAY_DATA (or --set tofu.hub=locuslab/TOFU)"
        if not given:
            raise ConfigError(f"the corpus tofu does not come with the package; {way_out}")
        wanted = f"{self.forget}_perturbed.json"
        tried = (Path(given).expanduser(), Path(given).expanduser() / "tofu")
        for folder in tried:
            if (folder / wanted).is_file():
                return folder
        raise ConfigError(f"no {wanted} in {tried[0]} or {tried[1]}; {way_out}")


def _quiz(pair: Pair, row: FileRow, wordings: tuple[str, ...] = ()) -> Quiz:
    return Quiz(pair.id, pair.question, pair.answer, pair.group, wordings, row.texts("perturbed_answer"))


def _author(number: int) -> str:
    return f"author-{number:03d}"
