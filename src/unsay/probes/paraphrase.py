"""Paraphrase: the same question in other words."""

from dataclasses import dataclass
from typing import ClassVar

from unsay.lm.subject import Prompt, Subject
from unsay.metric import Metric, leak
from unsay.probes.scoring import NO_TOKENS, Asked, known, missing, references, rouge_recall, scored, unscored, worst
from unsay.types import Case, Finding

NO_PARAPHRASE = "the question has no paraphrase"


@dataclass(frozen=True)
class Paraphrase:
    """Does another wording open it? A greedy answer to each paraphrase of the question.

    ROUGE-L compares with the paraphrased answer, where there is one; keyword recall takes the larger of both wordings, since
    the secret is the same in either.

    Does not cover: wordings that are not among the corpus' paraphrases; other languages, frames, translation requests.
    """

    title: ClassVar[str] = "Asked in other words"
    tested: ClassVar[str] = "other wordings of the question ({count} of each)"
    by_setting: ClassVar[str] = "keyword_recall"
    variants: ClassVar[str] = "wordings"
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "paraphrase_keyword_recall",
            "Asked in other words",
            "Default answer to another wording of the question.",
            case="paraphrases",
            untold=NO_PARAPHRASE,
            forgotten=True,
            picture="leaks",
            claim="{} where it is asked in other words",
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        asked = []
        for example, fact in known(case):
            for number, question in enumerate(example.paraphrases, start=1):
                asked.append(Asked(example, Prompt(f"{example.id}#{number}", question), references(fact), str(number)))
        answers = subject.ask([one.prompt for one in asked], salt="paraphrase") if asked else []
        metrics = ("rouge_l_recall", "keyword_recall")
        found = missing("paraphrase", metrics, case)
        found += unscored("paraphrase", metrics, (e.id for e, _ in known(case) if not e.paraphrases), NO_PARAPHRASE)
        for one, (answer,) in zip(asked, answers, strict=True):
            rouge = rouge_recall(one.references[0], answer.text)
            found.append(scored("paraphrase", "rouge_l_recall", rouge, one.example.id, one.setting, NO_TOKENS, case.source))
            found.append(worst("paraphrase", "keyword_recall", one, [answer.text], case.source))
        return found
