"""Make a language model stop saying what it must not say, and show how far that holds."""

from typing import TYPE_CHECKING, Any

from unsay.config import load

if TYPE_CHECKING:
    from unsay.api import Result, audit_model, gate, unlearn

__version__ = "0.2.0"
__all__ = ["Result", "audit_model", "gate", "load", "unlearn"]


def __getattr__(name: str) -> Any:
    # Torch and transformers take seconds to import, which `unsay --help` need not wait for.
    if name in __all__:
        from unsay import api

        return getattr(api, name)
    raise AttributeError(f"module 'unsay' has no attribute {name!r}")
