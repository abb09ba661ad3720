"""What the C library keeps of freed memory, and gives back when asked."""

import platform
import subprocess
import sys

import pytest

from unsay.store import memory

HELD = """
from unsay.store.memory import give_back, keep_freed_pages

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024

keep_freed_pages()
blocks = [bytes(1 << 20) for _ in range(400)]
wall = blocks[199::200]  # what stays lies between what goes
del blocks
kept = resident()
give_back()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed pages when it is asked to")
def test_what_is_kept_for_speed_is_given_back_when_asked():
    found = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 300  # MiB, of the 398 that were freed


STAGES = """
import sys
from pathlib import Path
from unsay.store.folder import RunFolder
from unsay.store.memory import keep_freed_pages

keep_freed_pages()
folder = RunFolder(Path(sys.argv[1]))
for name, blocks in (("train", 400), ("audit after", 10)):
    with folder.stage(name):
        held = [bytes(1 << 20) for _ in range(blocks)]
        del held
peaks = folder.manifest().peak_memory
print((peaks["train"].process - peaks["audit after"].process) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed pages when it is asked to")
def test_a_stage_of_a_whole_run_begins_without_the_memory_of_the_one_before(tmp_path):
    found = subprocess.run([sys.executable, "-c", STAGES, str(tmp_path / "run")], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 300


NAMED = """
from pathlib import Path
from unsay.store.memory import peak_memory

Path("/proc/self/comm").write_bytes("fourteen-lettr\u00e9".encode())  # cut after fifteen bytes, in the middle of a letter
print(peak_memory()["process"] > 0)
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="Linux names a process there")
def test_a_process_may_be_called_anything():
    assert subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("group", "free"),
    [
        ({}, 8000 * 1024),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 8000 * 1024),
        ({"memory.max": "9000\n", "memory.current": "5000\n", "memory.stat": "anon 1\ninactive_file 700\n"}, 4700),
        (
            {
                "memory/memory.limit_in_bytes": "9000\n",
                "memory/memory.usage_in_bytes": "5000\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
            },
            4300,
        ),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5000\n"}, 8000 * 1024),
    ],
    ids=["no group", "version 2, no limit", "version 2", "version 1", "version 1, no limit"],
)
def test_free_memory_is_the_control_group_s_where_that_is_tighter(monkeypatch, group, free):
    files = {f"/sys/fs/cgroup/{name}": text for name, text in group.items()}
    files["/proc/meminfo"] = "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"
    monkeypatch.setattr(memory, "_read", lambda path: files.get(path, ""))
    assert memory.free_memory() == free
