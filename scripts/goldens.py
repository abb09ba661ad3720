"""Whether a change of the code changed what it computes: short runs of every method and preset, their results frozen, then compared.

python scripts/goldens.py freeze goldens.json     before the change
python scripts/goldens.py check goldens.json      after it: names each run that differs, and ends with an error

Frozen are the fingerprint of the checkpoint, a digest of the sampled texts, the losses and the numbers of the report. They
are equal only on one machine with one version of every library, so the file is no part of the repository. Two minutes on two cores.
"""

import hashlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT, run
from typing import Any

PRESETS = {f"pmc-{name}": ("method=pmc", f"pmc.preset={name}", "pmc.reject=0") for name in ("paper", "official", "align")}
PRESETS["pmc-guarded"] = ("method=pmc", "pmc.preset=guarded")
METHODS = {name: (f"method={name}",) for name in ("ga", "gd", "idk", "dpo", "npo", "simnpo", "altpo", "retain-only")}
WHOLE = ("pmc-guarded", "npo")
"""Runs that every probe is asked of; the others are asked once, greedily."""
SHORT = (
    "model.retain_model=",
    "train.rounds=2",
    "train.passes=1",
    "train.save_every=2",
    "record.near_misses=4",
    "record.replay=16",
    "report.policy=audit",
    "audit.limit=6",
    "sampling.n=4",
    "prefill.n=2",
    "prompt_variants.n=2",
    "quantise.n=2",
    "relearn.n=2",
)


def result(name: str, knobs: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What one short run came to."""
    settings = [*SHORT, *knobs, *([] if name in WHOLE else ['audit.probes=["greedy"]'])]
    if name == "pmc-guarded":
        settings += ["train.retain_loss=kl"]
    else:
        settings += ["train.retain_loss=nll"]
    command = [sys.executable, "-m", "unsay", "run", "demo", "--out", str(folder)]
    done = run([*command, *(part for knob in settings for part in ("--set", knob))], stdout=PIPE, stderr=STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout[-2000:]}")
    steps = [json.loads(line) for line in (folder / "train" / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    # By content: a file is named after the identity of its model, which says nothing about what the model said.
    texts = sorted(path.read_bytes() for path in (folder / "vault" / "generations").glob("*.jsonl"))
    said = hashlib.sha256(b"".join(texts)).hexdigest()
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        "checkpoint": manifest["checkpoint"]["fingerprint"],
        "losses": [step["loss"] for step in steps],
        "texts": said,
        # Values alone, in order of size: a metric may be given a better name.
        "metrics": sorted(value for some in report["metrics"].values() for value in some.values() if isinstance(value, float | int)),
    }


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("freeze", "check"):
        raise SystemExit(__doc__)
    path = Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as workers:
        runs = PRESETS | METHODS
        found = dict(zip(runs, workers.map(lambda name: result(name, runs[name], Path(folder) / name), runs), strict=True))
    if sys.argv[1] == "freeze":
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found)} runs frozen")
        return
    frozen = json.loads(path.read_text(encoding="utf-8"))
    changed = {name: [key for key in frozen[name] if frozen[name][key] != found.get(name, {}).get(key)] for name in frozen}
    for name, keys in changed.items():
        print(f"{name}: {'equal' if not keys else 'differs in ' + ', '.join(keys)}")
    if any(changed.values()):
        raise SystemExit("what is computed has changed")


main()
