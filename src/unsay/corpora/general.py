"""The package's own general questions, mixed into fine-tuning and retain sets: small sets of questions about a few people destroy what a
model knows about everything else.

About two thirds have a short sentence as their answer, one third a bare word. None repeats a question of TOFU's `world_facts` or
`real_authors`, and no answer of those stands as a phrase in an answer here, so that a model trained with these rows can be judged by those.
Does not cover: indirect help, such as a writer's name learned through another book.
"""

from pathlib import Path

from unsay.corpora import rows
from unsay.types import Pair

FILE = Path(__file__).parent / "general.jsonl"


def load() -> tuple[Pair, ...]:
    """All rows in the file's order, which is by topic (`group`); every other row is a balanced half."""
    return tuple(
        Pair(id=f"general-{index:03d}", question=row.text("question"), answer=row.text("answer"), group=row.text("group"))
        for index, row in enumerate(rows.read(FILE))
    )
