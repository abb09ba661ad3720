"""The command line: parse → one stage → print where it landed. One file per group of commands."""

from unsay.cli.app import main

__all__ = ["main"]
