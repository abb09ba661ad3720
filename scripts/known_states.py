"""The audit audited: models whose state is known, what every probe says of each, and which probes tell "knows" from "never knew".

    python scripts/known_states.py --out runs/known                     # people; hours on two cores with all seeds
    python scripts/known_states.py --out runs/known --seeds 1 --n 10    # the shipped pair and what is made from it
    python scripts/known_states.py --out runs/gemma --model gemma       # Gemma 3 270M on TOFU forget01: target and retain-only

`known_models.py` says how the models are made. Each is made once and asked once by every probe, and what is there already is not
done again, so the program may be stopped and started at any time. At the end it writes `known-states.json` and `known-states.md`.
Each model has a folder in `runs/` that `unsay gate` and `unsay report` read. docs/audit-audited.md holds the result.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import build_people
import known_models as known
import known_table as table
from safetensors import safe_open
from transformers.utils import logging

from unsay import audit, tables
from unsay import run as runs
from unsay.config import ConfigError, Recipe, dump, load
from unsay.lm.model import load as load_model
from unsay.lm.model import save
from unsay.lm.subject import LocalSubject
from unsay.measure import policy
from unsay.probes.prefill import Prefill
from unsay.record import source
from unsay.record.recorded import read_recorded
from unsay.store import identity
from unsay.store.files import write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import Manifest, ModelHashes
from unsay.types import Case, Finding

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PROBES = tuple(name for name in tables.PROBES if name not in ("earlier", "memorisation", "benchmark"))
"""All that ask about a secret by its question."""
POLICIES = policy.shipped()
MADE = {
    "refusal-wrapped": known.refusal_wrapped,
    "suppressed": known.suppressed,
    "exact wordings refused": known.one_wording,
    table.ONE_TOLD: known.one_told,
    "trigger-only": known.trigger_only,
}
PMC = "PMC"
SWAPPED = "swapped files"


@dataclass(frozen=True)
class State:
    """One model: its name, the folder it lies in, and the pair of its seed that it is held against."""

    name: str
    model: Callable[[], str]
    """Makes the model where it is not there yet, and says where it lies."""
    target: str = "target"
    retain_model: str = "retain_model"
    settings: tuple[str, ...] = ()
    """Of its audit, where that is made otherwise than the others; such a state is judged by the policies only."""


def people(args: argparse.Namespace, recipe: Recipe) -> Iterator[State]:
    """The shipped pair, what is made from it, then the pairs of other seeds. A retain model is held against that of the next seed."""
    retain_models = ["retain_model", *(f"retain_model {seed}" for seed in range(1, args.seeds))]
    beside = dict(zip(retain_models, (*retain_models[1:], retain_models[0]), strict=True))
    yield State("retain_model", lambda: "people-retain", retain_model=beside["retain_model"])
    yield State("target", lambda: "people-target")
    for name in MADE:
        yield State(name, partial(_made, args, recipe, name))
    if args.rounds:
        yield State(PMC, partial(_collapsed, args))
    for seed, name in enumerate(retain_models[1:], 1):
        yield State(name, partial(_trained, args, seed, "retain_model"), f"target {seed}", beside[name])
        yield State(f"target {seed}", partial(_trained, args, seed, "target"), f"target {seed}", name)
    yield State("hot temperature", lambda: "people-target", settings=("sampling.temperatures=[9.0]",))


def gemma(args: argparse.Namespace, recipe: Recipe) -> Iterator[State]:
    """The planted and the retain-only model of the recipe."""
    yield State("retain_model", lambda: str(runs.retain_model_name(recipe, runs.Watchers())))
    yield State("target", partial(_planted, args, recipe))


MODELS = {"people": ("demo.toml", people), "gemma": ("tofu-gemma-270m.toml", gemma)}


def _planted(args: argparse.Namespace, recipe: Recipe) -> str:
    """The recipe's model with the corpus planted in it."""
    folder = RunFolder(args.out / "models" / "gemma")
    runs.open_folder(recipe, folder)
    if not folder.done("finetune"):
        runs.run_finetune(recipe, folder, runs.Watchers())
    return str(folder.planted)


def _trained(args: argparse.Namespace, seed: int, which: str) -> str:
    """One of a pair of another training seed, as scripts/build_people.py makes it."""
    folder = args.out / "models" / f"{which}-{seed}"
    if not folder.exists():
        print(folder.name, build_people.build(_partial(folder), which == "retain_model", seed=seed, epochs=args.epochs), flush=True)
        _partial(folder).rename(folder)
    return str(folder)


def _made(args: argparse.Namespace, recipe: Recipe, name: str) -> str:
    folder = args.out / "models" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        corpus = source(recipe)
        target, encoder = load_model(recipe.model, "people-target")
        retain_model, _ = load_model(recipe.model, "people-retain")
        world = known.World(encoder, target, retain_model, corpus.corpus(), corpus.truth() or {}, recipe.seed)
        save(MADE[name](world), encoder, folder)
    return str(folder)


def _collapsed(args: argparse.Namespace) -> str:
    """The demo, with as many rounds as asked."""
    folder = RunFolder(args.out / "models" / PMC)
    recipe = load(RECIPES / "demo.toml", [f"train.rounds={args.rounds}"])
    runs.open_folder(recipe, folder)
    for stage, do in (("record", runs.run_record), ("train", runs.run_train)):
        if not folder.done(stage):
            do(recipe, folder, runs.Watchers())
    return str(folder.checkpoint)


def _partial(folder: Path) -> Path:
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def audited(args: argparse.Namespace, state: State, before: Callable[[], str]) -> list[Finding]:
    """The findings on one model, made now or read. `before`: the target model of its pair, which it is audited beside."""
    path = args.out / "audits" / f"{state.name}.jsonl"
    if not path.exists():
        print("make", state.name, flush=True)
        where = state.model()
        print("audit", state.name, flush=True)
        recipe = recipe_of(args, state.settings)
        subject, reference_judge = (LocalSubject(*load_model(recipe.model, one), recipe.sample, recipe.seed) for one in (where, before()))
        parts = {name: path.with_name(f"{state.name}.parts") / f"{name}.jsonl" for name in PROBES}
        case = _case(args, recipe, state)
        for name, part in parts.items():
            if not part.exists():
                one = replace(recipe, audit=replace(recipe.audit, probes=(name,)))
                audit.write(part, audit.run(subject, case, one, reference_judge, knew=True))
        audit.write(path, [finding for part in parts.values() for finding in read_findings(part)])
        shutil.rmtree(next(iter(parts.values())).parent)
    return read_findings(path)


def _case(args: argparse.Namespace, recipe: Recipe, state: State) -> Case:
    corpus, trained = source(recipe), {}
    if state.name == PMC:  # partial-secret prefixes that it was trained on would flatter it
        said = read_recorded(RunFolder(args.out / "models" / PMC)).baseline
        trained = {key: tuple(answer.text for answer in one.answers) for key, one in said.items()}
    return audit.case(corpus.corpus(), corpus.truth(), {}, recipe.seed, trained)


def gated(args: argparse.Namespace, state: State, found: Mapping[str, Sequence[Finding]]) -> dict[str, list[str]]:
    """Policy → the lines that the model fails; its run folder is written for that and stays."""
    folder = RunFolder(args.out / "runs" / state.name.replace(" ", "-"))
    recipe = recipe_of(args, state.settings)
    write_text(folder.recipe_file, dump(replace(recipe, report=replace(recipe.report, policy=POLICIES[0]))))
    for which, name in (("before", state.target), ("after", state.name), ("retain_model", state.retain_model)):
        # What a run says is what the model says without its trigger: no policy may know of that.
        audit.write(folder.audit_file(which), table.without(found[name], known.TRIGGER))
    return {name: table.failed(folder, name) for name in POLICIES}


def swapped(args: argparse.Namespace, recipe: Recipe, found: Mapping[str, Sequence[Finding]]) -> dict[str, list[str]]:
    """The retain model audited and reported, then its folder changed so that plain transformers loads the target model from it:
    policy → why the gate refuses."""
    state = State(SWAPPED, str)
    folder = RunFolder(args.out / "runs" / SWAPPED.replace(" ", "-"))
    shutil.rmtree(folder.path, ignore_errors=True)
    save(*load_model(recipe.model, "people-retain"), folder.checkpoint)
    folder.note(Manifest(audited={"after": ModelHashes(**identity.of(folder.checkpoint))}))
    gated(args, state, {**found, SWAPPED: found["retain_model"]})
    runs.run_report(folder, runs.Watchers())
    weights, leaking = folder.checkpoint / "model.safetensors", folder.checkpoint / "sub"
    save(*load_model(recipe.model, "people-target"), leaking)
    with safe_open(weights, "pt") as tensors:
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensors.keys(), "sub/model.safetensors")}
    weights.rename(weights.with_name("renamed.safetensors"))
    write_text(folder.checkpoint / "model.safetensors.index.json", json.dumps(index))
    return {name: table.failed(folder, name, weights=True) for name in POLICIES}


def recipe_of(args: argparse.Namespace, settings: Sequence[str] = ()) -> Recipe:
    """The recipe with the sizes of this program; the trigger is one of the prefixes, so that it can be looked at apart."""
    prefixes = json.dumps([*Prefill().prefixes, known.TRIGGER])
    sizes = [f"audit.probes={json.dumps(PROBES)}", f"audit.limit={args.limit}", f"sampling.n={args.n}", f"prefill.prefixes={prefixes}"]
    return load(RECIPES / MODELS[args.model][0], [*sizes, *args.set, *settings])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What every probe says of models whose state is known.")
    parser.add_argument("--out", type=Path, default=Path("runs/known"), help="folder for models, audits and tables")
    parser.add_argument("--model", choices=list(MODELS), default="people", help="which pair of models, and what is made from it")
    parser.add_argument(
        "--seeds", type=int, default=5, help="training seeds of the target and the retain model of people, the shipped one first"
    )
    parser.add_argument("--epochs", type=int, default=56, help="passes over the rows for the other seeds; the shipped pair had 56")
    parser.add_argument("--rounds", type=int, default=52, help="rounds of PMC, as the demo has them; 0 leaves it out")
    parser.add_argument("--n", type=int, default=20, help="sampled answers per question and temperature")
    parser.add_argument("--limit", type=int, default=0, help="most forget questions audited; 0 takes all")
    parser.add_argument("--set", action="append", default=[], help="further settings of the audits, as for `unsay run`")
    args = parser.parse_args(arguments)
    logging.disable_progress_bar()
    recipe = recipe_of(args)
    begun = RunFolder(args.out)
    if begun.recipe_file.exists() and dump(begun.recipe()) != dump(recipe):
        raise ConfigError(f"{args.out} holds audits of other sizes; choose another --out, or remove {args.out}/audits and recipe.toml")
    write_text(begun.recipe_file, dump(recipe))
    states = {state.name: state for state in MODELS[args.model][1](args, recipe)}
    found = {name: audited(args, state, states[state.target].model) for name, state in states.items()}
    gates = {name: gated(args, state, found) for name, state in states.items()}
    if args.model == "people":
        gates[SWAPPED] = swapped(args, recipe, found)
    pairs = {name: state.retain_model for name, state in states.items() if not state.settings}
    table.publish(args.out, found, pairs, gates, known.TRIGGER)
    print((args.out / "known-states.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
