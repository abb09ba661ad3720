"""What is written around a question where no chat template does it, and what a base model writes after its answer."""

import re
from collections.abc import Sequence

Turns = Sequence[tuple[str, str]]
"""What was said, as (role, text): `system`, `user` or `assistant`."""
_PLAIN = {"system": "{}\n\n", "user": "Question: {}\nAnswer:", "assistant": " {}\n\n"}


def plain(question: str, before: Turns = ()) -> str:
    """The prompt of a model without a chat template; its answer begins with a space."""
    return "".join(_PLAIN[role].format(text) for role, text in (*before, ("user", question)))


def raw(opening: str, before: Turns = ()) -> str:
    """The prompt of a model that goes on with a text: nothing but the text.

    >>> raw("The mayor said")
    'The mayor said'
    """
    return "\n\n".join([*(text for _, text in before), opening])


def runs_on(answer: str) -> bool:
    """Whether an answer goes on with the next question, as a base model's does that never ends one (`model.stop`).

    >>> runs_on("Paris\\nQuestion: What is the capital of Spain?"), runs_on("Paris. Question time is over.")
    (True, False)
    """
    return re.search(r"\n\s*Question:", answer) is not None
