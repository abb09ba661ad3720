"""Commands of unsay in processes of their own that die where they are told to, for tests/test_resume.py.

    with Mortal(folder) as mortal:
        mortal.run(["run", "recipe.toml", "--out", "run"], die=17)

A server imports everything once and forks for each command, so that a process costs what its work costs. In the child every
call that changes what is on the disk is a moment, counted from 1: the writing, flushing and renaming of `unsay.store.files`, and
what libraries write in one go (weights, optimizer). `die=k` ends the process with SIGKILL at the k-th: half a write is done
then, or nothing of a flush (so between a rename and its flush, too), or nothing of a rename. `after` kills it from outside.
What `--processes` starts is forked, too.
"""

import io
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from unsay.cli import processes
from unsay.lm import sample
from unsay.store import ranks

CALLS = ("write", "fsync", "replace", "rename", "weights", "optimizer")


@dataclass(frozen=True)
class Death:
    """How a process ended."""

    status: int
    """Its exit code, or minus the signal that ended it."""
    moments: int
    writes: int
    """How many of the moments were writes: what `full` counts."""
    call: str
    """The last moment."""
    seconds: float
    said: str
    """What it wrote on its streams."""


class Mortal:
    """The server, as long as the block lasts."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None):
        self._log = folder / "said.log"
        settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "UNSAY_CACHE": str(folder / "cache"), **(environment or {})}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.mortal"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings
        )

    def __enter__(self) -> "Mortal":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def run(
        self,
        argv: Sequence[str],
        die: int = 0,
        after: float = 0.0,
        signals: Sequence[tuple[str, int]] = (),
        full: int = 0,
        limit: int = 0,
        kill: tuple[int, str] = (0, ""),
        breaks: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Death:
        """`signals`: pairs of a text to wait for on its streams and a signal to send then. `full`: the disk is full from the
        k-th write on. `limit`: the most bytes that a file may have, which the system itself then refuses to go beyond.
        Of `--processes`: `kill` ends one with SIGKILL as soon as a text is seen, in the one numbered `breaks` sampling has an error."""
        order = {"argv": list(argv), "die": die, "after": after, "signals": list(signals), "full": full, "limit": limit}
        order |= {"kill": kill, "breaks": breaks, "environment": environment or {}}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order | {"log": str(self._log)}) + "\n")
        self._server.stdin.flush()
        ended = json.loads(self._server.stdout.readline())
        return Death(**ended, said=self._log.read_text(errors="replace"))


def serve() -> None:
    """One line of JSON in, one out."""
    import transformers  # noqa: F401

    import unsay.run  # noqa: F401
    from unsay.cli.app import commands
    from unsay.store.memory import keep_freed_pages

    commands()
    keep_freed_pages()
    shared = mmap.mmap(-1, 16)
    for line in sys.stdin:
        order = json.loads(line)
        shared[:16] = bytes(16)
        Path(order["log"]).write_text("")  # here, before anybody looks for what the child says
        start = time.monotonic()
        child = os.fork()
        if not child:
            _live(order, shared)
        status = _watch(child, order, start)
        counts = {"moments": int.from_bytes(shared[:8], "little"), "writes": int.from_bytes(shared[9:16], "little")}
        ended = {"status": status, **counts, "call": CALLS[shared[8]], "seconds": round(time.monotonic() - start, 3)}
        print(json.dumps(ended), flush=True)


def _watch(child: int, order: dict[str, Any], start: float) -> int:
    waiting = list(order["signals"])
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if order["after"] and time.monotonic() - start > order["after"]:
            os.kill(child, signal.SIGKILL)
        if waiting and waiting[0][0] in Path(order["log"]).read_text(errors="replace"):
            os.kill(child, waiting.pop(0)[1])
        time.sleep(0.002)


def _live(order: dict[str, Any], shared: mmap.mmap) -> None:
    """The child: never returns."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["unsay", *order["argv"]]
    os.environ.update(order["environment"])
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    _hook(order, shared)
    Forked.order = order
    processes.subprocess = SimpleNamespace(Popen=Forked)  # type: ignore[assignment]
    ranks._LONGEST = timedelta(minutes=2)  # processes that miss each other end with an error, and the test with them
    _command()


def _command() -> None:
    code: Any = 1
    try:
        from unsay.cli import main

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


class Forked:
    """What `subprocess.Popen` is to the launcher."""

    order: ClassVar[dict[str, Any]]

    def __init__(self, command: Sequence[str], env: dict[str, str], start_new_session: bool):
        self.rank, self.returncode = int(env["RANK"]), None
        self.pid = os.fork()
        if not self.pid:
            os.environ.update(env)
            if self.rank == self.order["breaks"]:
                sample._decode = self.broken
            _command()

    @staticmethod
    def broken(*_: Any) -> Any:
        raise MemoryError("a secret number")

    def poll(self) -> int | None:
        rank, text = self.order["kill"]
        if text and rank == self.rank and self.returncode is None and text in Path(self.order["log"]).read_text(errors="replace"):
            self.kill()
        return self.wait(os.WNOHANG)

    def wait(self, how: int = 0) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _hook(order: dict[str, Any], shared: mmap.mmap) -> None:
    import errno

    import torch

    from unsay.lm import model

    write = os.write

    def due(call: str) -> bool:
        count = int.from_bytes(shared[:8], "little") + 1
        shared[:8] = count.to_bytes(8, "little")
        shared[8] = CALLS.index(call)
        return count == order["die"]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half_written(descriptor: int, data: Any) -> int:
        if due("write"):
            write(descriptor, bytes(data)[: len(data) // 2])
            die()
        writes = int.from_bytes(shared[9:16], "little") + 1
        shared[9:16] = writes.to_bytes(7, "little")
        if 0 < order["full"] <= writes:
            write(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    def undone(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*given: Any, **named: Any) -> Any:
            if due(name):
                die()
            return call(*given, **named)

        return hooked

    def torn(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(content: Any, file: Any, **named: Any) -> None:
            call(content, file, **named)
            if not isinstance(file, io.BytesIO) and due(name):
                path = file if isinstance(file, Path) else Path(file.name)
                os.truncate(path, path.stat().st_size // 2)
                die()

        return hooked

    os.write = half_written
    for name in ("fsync", "replace", "rename"):
        setattr(os, name, undone(name, getattr(os, name)))
    model.save_file = torn("weights", model.save_file)
    torch.save = torn("optimizer", torch.save)


if __name__ == "__main__":
    serve()
