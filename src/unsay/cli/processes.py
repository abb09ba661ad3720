"""`--processes`: a command on several processes of this machine, started here and looked after to their end.

torch's own agent (torchrun, `accelerate launch`) can start them too, but kills a round that takes longer than 30 seconds to be saved.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Annotated

import typer

from unsay.cli.app import LOST, note
from unsay.store import ranks

_PARENT = "UNSAY_STARTED_BY"
_GRACE = 10.0
"""Seconds that the others get, once one has failed, to notice it at their next meeting and to end by themselves."""


def _start(processes: int) -> int:
    """Run the command on so many processes, and end with them. Those that this starts get the option too, and are several already."""
    if processes > 1 and not ranks.launched():
        raise typer.Exit(launch(processes, [sys.executable, "-m", "unsay", *sys.argv[1:]]))
    if parent := int(os.environ.get(_PARENT, 0)):
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return processes


def _end_with(parent: int) -> None:
    """Stop this process when its parent is gone: a parent that was killed outright cannot pass the signal on."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, callback=_start, help="Share the work among so many processes here, one graphics card each.")
]


def launch(processes: int, command: list[str]) -> int:
    """Run the command on all of them; the exit code of the first that failed by itself, or 0. Signals are passed on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // processes)
    shared = {
        _PARENT: str(os.getpid()),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    # The same hash seed for all: otherwise the order of a set could differ from process to process.
    environment = {"OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "0"} | os.environ | shared
    ranked = [environment | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(processes)]
    # Each in a session of its own: Ctrl-C at the terminal then reaches it once, through `pass_on`.
    started = [subprocess.Popen(command, env=one, start_new_session=True) for one in ranked]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for one in started:
            one.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)

    def running() -> "list[subprocess.Popen[bytes]]":
        return [one for one in started if one.poll() is None]

    while running() and not any(one.returncode for one in started):
        time.sleep(0.1)
    end = time.monotonic() + _GRACE
    while running() and time.monotonic() < end:
        time.sleep(0.1)
    left = running()
    for one in left:
        one.kill()
        one.wait()
    codes = {i: one.returncode for i, one in enumerate(started) if one not in left and one.returncode not in (0, LOST)}
    for i, code in codes.items():
        if code < 0:
            how = signal.Signals(-code).name
            note(f"unsay: process {i} of {processes} was ended by {how}; the same command goes on from what was saved")
            return 128 - code
    return next(iter(codes.values()), 0)
