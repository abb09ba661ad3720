"""Make a language model stop saying what it must not say, and show how far that holds."""

__version__ = "0.2.0"
