"""Walk the three guides as a new user would, at full size, and say how long each command takes.

python scripts/walk_guides.py runs/walk                    # ten minutes of two idle cores
python scripts/walk_guides.py runs/walk for-engineers

The folder must be new: it is the user's working folder, and the officer reads in it what the engineer's run left. Commands run one after
another as they stand on the page, through the shell, but for those that take hours (`HOURS`).
"""

import re
import subprocess
import sys
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDES = ("for-engineers", "for-officers", "for-researchers")
HOURS = ("sweep", "front", "ablate")
LAST = "vault destroy"
"""Not walked: the officer still reads the folder."""


def files(page: str) -> dict[str, str]:
    """What the page asks its reader to write, by file name."""
    return dict(re.findall(r"`([\w-]+\.jsonl)`\n\n```json\n(.*?)```", page, re.DOTALL))


def commands(page: str) -> list[str]:
    """The `unsay` commands of the page, in its order, without their comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0].strip() for language, block in blocks if not language for line in block.splitlines()]
    left_out = tuple(f"unsay {name}" for name in (*HOURS, LAST))
    return [line for line in lines if line.startswith("unsay ") and not line.startswith(left_out)]


def main(home: Path, guides: list[str]) -> int:
    """How many commands failed; that of a gate which says no is an answer."""
    home.mkdir(parents=True)
    failed = 0
    for guide in guides:
        page = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
        for name, rows in files(page).items():
            (home / name).write_text(rows, encoding="utf-8")
        started = time.monotonic()
        for line in commands(page):
            begun = time.monotonic()
            done = subprocess.run(line, shell=True, cwd=home, capture_output=True, text=True)
            print(f"{guide:16} {time.monotonic() - begun:7.1f} s  exit {done.returncode}  {line}", flush=True)
            failed += done.returncode not in ((0, 1) if line.startswith("unsay gate") else (0,))
            with open(home / "walk.log", "a", encoding="utf-8") as log:
                log.write(f"$ {line}\n{done.stdout}{done.stderr}\n")
        print(f"{guide:16} {time.monotonic() - started:7.1f} s  in all", flush=True)
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(min(1, main(Path(sys.argv[1]), sys.argv[2:] or list(GUIDES))))
