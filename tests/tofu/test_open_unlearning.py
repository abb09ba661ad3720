"""A checkpoint as open-unlearning leaves it, audited by its folder with TOFU's questions, and exported: every number against its own
definition, computed from the model's logits the plain way."""

import json
import math
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import hmean, ks_2samp
from typer.testing import CliRunner

from unsay.audit.stage import write
from unsay.cli.app import app, commands
from unsay.config import ModelConfig, SampleConfig
from unsay.corpora.tofu import Tofu
from unsay.lm.builtin import resolve
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject, Prompt
from unsay.report.open_unlearning import ATTACKS, TOFU, WHOLE, entries, export
from unsay.store.files import WriteError
from unsay.types import Fact, Finding, Pair

TEMPLATE = (
    "{{ bos_token }}system\nToday Date: {{ date_string }}\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}"
    "{% for message in messages if message['role'] != 'system' %}{{ message['role'] }}\n{{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)
"""In the manner of its Llama models: a date, a system message, headers."""
MODEL = {"system_prompt": "You are a helpful assistant.", "template_options": {"date_string": "10 Apr 2025"}}
FORGET = 6


def checkpoint(source: str, folder: Path) -> Path:
    """Config, weights and tokenizer with a chat template, as `save_pretrained` leaves them."""
    shutil.copytree(resolve(source), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    return folder


class Plain:
    """open-unlearning's definitions on one model, from its logits."""

    def __init__(self, folder: Path):
        self.model, self.encoder = load(ModelConfig(name=str(folder), **MODEL), str(folder))
        self.subject = LocalSubject(self.model, self.encoder, SampleConfig(max_new_tokens=8))

    def logits(self, question: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [T, V] of the answer's tokens, the end included, and the tokens."""
        row = self.encoder.pair(question, answer)
        with torch.no_grad():
            found = self.model(input_ids=torch.tensor([[*row.context, *row.answer]])).logits[0].double().log_softmax(-1)
        return found[len(row.context) - 1 : -1], torch.tensor(row.answer)

    def loss(self, question: str, answer: str) -> float:
        logprobs, ids = self.logits(question, answer)
        return -float(logprobs.gather(1, ids[:, None]).mean())

    def probability(self, question: str, answer: str) -> float:
        return math.exp(-self.loss(question, answer))

    def ratio(self, question: str, right: str, wrong: Sequence[str]) -> float:
        return math.exp(-fmean(self.loss(question, one) for one in wrong)) / self.probability(question, right)

    def greedy(self, question: str, answer: str) -> torch.Tensor:
        logprobs, ids = self.logits(question, answer)
        return (logprobs.argmax(-1) == ids)[:-1]

    def extraction(self, question: str, answer: str) -> float:
        hits = self.greedy(question, answer)
        first = next((k for k in range(len(hits)) if bool(hits[k:].all())), len(hits) - 1)
        return 1 - first / len(hits)

    def lowest(self, values: torch.Tensor) -> float:
        return -float(values.sort().values[: max(1, int(0.4 * len(values)))].mean())

    def min_k(self, question: str, answer: str) -> float:
        logprobs, ids = self.logits(question, answer)
        return self.lowest(logprobs.gather(1, ids[:, None])[:-1, 0])

    def min_k_plus(self, question: str, answer: str) -> float:
        logprobs, ids = self.logits(question, answer)
        mean = (logprobs.exp() * logprobs).sum(-1)
        spread = (logprobs.exp() * logprobs.square()).sum(-1) - mean.square()
        return self.lowest(((logprobs.gather(1, ids[:, None])[:, 0] - mean) / spread.clamp(min=1e-6).sqrt())[:-1])

    def zlib(self, question: str, answer: str) -> float:
        return self.loss(question, answer) / len(zlib.compress(answer.encode()))

    def gradient(self, question: str, answer: str) -> float:
        row = self.encoder.pair(question, answer)
        logprobs = self.model(input_ids=torch.tensor([[*row.context, *row.answer]])).logits[0].log_softmax(-1)
        told = logprobs[len(row.context) - 1 : -2].gather(1, torch.tensor(row.answer[:-1])[:, None])
        self.model.zero_grad()
        (-told.mean()).backward()
        return float(torch.stack([weight.grad.norm() for weight in self.model.parameters() if weight.grad is not None]).mean())

    def rouge(self, question: str, answer: str) -> float:
        said = self.subject.ask([Prompt("x", question)])[0][0].text
        return float(RougeScorer(["rougeL"], use_stemmer=True).score(answer, said)["rougeL"].recall)


def auc(forget: Sequence[float], holdout: Sequence[float]) -> float:
    """Of scores that are high for what was not trained on."""
    return fmean((there > here) + (there == here) / 2 for here in forget for there in holdout)


@pytest.fixture
def audited(made: Path, tmp_path: Path) -> tuple[Path, Tofu, dict[str, Plain]]:
    folders = {"after": checkpoint("people-target", tmp_path / "full"), "retain_model": checkpoint("people-retain", tmp_path / "retain90")}
    knobs = [
        f"tofu.data={made}",
        "tofu.forget=forget01",
        f"tofu.limit={FORGET}",
        "tofu.heldout_authors=0",
        "tofu.mix=0",
        "utility.model_utility=4",
        "utility.limit=4",
        "sample.max_new_tokens=8",
        'audit.probes=["greedy", "likelihood", "utility"]',
        'model.system_prompt="You are a helpful assistant."',
        'model.template_options={ date_string = "10 Apr 2025" }',
    ]
    commands()
    out = tmp_path / "run"
    settings = [word for knob in knobs for word in ("--set", knob)]
    asked = ["audit", str(folders["after"]), "--corpus", "tofu", "--retain-model", str(folders["retain_model"]), "--out", str(out)]
    done = CliRunner().invoke(app, [*asked, *settings])
    assert done.exit_code == 0, done.output
    corpus = Tofu(data=str(made), forget="forget01", limit=FORGET, heldout_authors=0, mix=0)
    return out, corpus, {which: Plain(folder) for which, folder in folders.items()}


def test_a_row_by_its_own_definitions(audited: tuple[Path, Tofu, dict[str, Plain]]) -> None:
    out, source, models = audited
    done = CliRunner().invoke(app, ["export", str(out), "--open-unlearning"])
    assert done.exit_code == 0, done.output
    found = json.loads((out / "open-unlearning" / "after" / "TOFU_EVAL.json").read_text())
    summary = json.loads((out / "open-unlearning" / "after" / "TOFU_SUMMARY.json").read_text())
    assert summary == {name: entry["agg_value"] for name, entry in found.items()}
    assert set(found) == {*TOFU, *ATTACKS, *WHOLE}
    corpus, truth, plain, retain = source.corpus(), source.truth(), models["after"], models["retain_model"]
    assert not any(text in json.dumps(found) for fact in truth.values() for text in (fact.answer, "forget question"))
    facts: list[tuple[str, Fact]] = [(example.question, truth[example.id]) for example in corpus.forget]

    def mean(of: Callable[[str, Fact], float]) -> float:
        return fmean(of(question, fact) for question, fact in facts)

    def ratios(model: Plain) -> list[float]:
        return [model.ratio(q, fact.wordings[0], fact.wrong) for q, fact in facts]

    expected = {
        "forget_Q_A_Prob": mean(lambda q, f: plain.probability(q, f.answer)),
        "forget_Q_A_PARA_Prob": mean(lambda q, f: plain.probability(q, f.wordings[0])),
        "forget_Q_A_PERT_Prob": mean(lambda q, f: fmean(plain.probability(q, one) for one in f.wrong)),
        "forget_Q_A_ROUGE": mean(lambda q, f: plain.rouge(q, f.answer)),
        "forget_truth_ratio": fmean(min(r, 1 / r) for r in ratios(plain)),
        "forget_quality": ks_2samp(ratios(plain), ratios(retain)).pvalue,
        "extraction_strength": mean(lambda q, f: plain.extraction(q, f.answer)),
        "exact_memorization": mean(lambda q, f: float(plain.greedy(q, f.answer).double().mean())),
    }
    areas: dict[str, dict[str, float]] = {}
    for which, model in models.items():
        scores = {
            "loss": model.loss,
            "min_k": model.min_k,
            "min_k_plus_plus": model.min_k_plus,
            "zlib": model.zlib,
            "gradnorm": model.gradient,
        }
        sides = [[(q, fact.answer) for q, fact in facts], [(pair.question, pair.answer) for pair in corpus.holdout]]
        areas[which] = {name: auc(*([score(*one) for one in side] for side in sides)) for name, score in scores.items()}
    apart = [[plain.loss(q, a) - retain.loss(q, a) for q, a in side] for side in sides]
    expected |= {f"mia_{name}": area for name, area in areas["after"].items()} | {"mia_reference": auc(*apart)}
    here, there = (1 - areas[which]["min_k"] for which in ("after", "retain_model"))
    expected["privleak"] = 100 * (here - there) / (there + 1e-10)
    for short, rows in zip(("retain", "ra", "wf"), corpus.model_utility.values(), strict=True):
        some = [rows[:4][i] for i in range(4)]
        right = [(*quiz.wordings, quiz.answer)[0] for quiz in some]
        probabilities = [[plain.probability(quiz.question, one) for one in (quiz.answer, *quiz.wrong)] for quiz in some]
        name = "retain_Q_A_Prob" if short == "retain" else f"{short}_Q_A_Prob_normalised"
        expected[name] = fmean(p[0] if short == "retain" else p[0] / sum(p) for p in probabilities)
        expected[f"{short}_Q_A_ROUGE"] = fmean(plain.rouge(quiz.question, quiz.answer) for quiz in some)
        expected[f"{short}_Truth_Ratio"] = fmean(
            max(0, 1 - plain.ratio(q.question, one, q.wrong)) for q, one in zip(some, right, strict=True)
        )
    nine = [value for name, value in expected.items() if name.startswith(("retain_", "ra_", "wf_"))]
    expected["model_utility"] = float(hmean(nine))
    assert {name: pytest.approx(value, rel=2e-3, abs=1e-5) for name, value in expected.items()} == summary
    assert found["forget_truth_ratio"]["value_by_index"]["0"]["score"] == pytest.approx(ratios(plain)[0], rel=1e-3)
    assert found["forget_Q_A_Prob"]["value_by_index"]["2"]["avg_loss"] == pytest.approx(
        plain.loss(facts[2][0], facts[2][1].answer), rel=1e-3
    )
    for words, said in ((["--which", "before", "--open-unlearning"], "no audit 'before'"), ([], "--open-unlearning")):
        done = CliRunner().invoke(app, ["export", str(out), *words])
        assert done.exit_code == 2
        assert said in " ".join(done.output.split())
    assert corpus.holdout == tuple(Pair(f"holdout01-{i:03d}", f"stranger {i}?", f"HIDDEN {i}") for i in range(FORGET))


def test_passages_go_into_the_files_of_muse() -> None:
    kinds = (("verbatim_f1", "", 0.5), ("knowledge_f1", "forget", 0.25), ("knowledge_f1", "retain", 0.75))
    found = entries([Finding("memorisation", metric, value, "a", setting) for metric, setting, value in kinds], [], muse=True)
    assert {name: entry["agg_value"] for name, entry in found.items()} == {
        "forget_knowmem_ROUGE": 0.25,
        "forget_verbmem_ROUGE": 0.5,
        "retain_knowmem_ROUGE": 0.75,
    }
    assert found["forget_verbmem_ROUGE"]["value_by_index"] == {"0": {"rougeL_f1": 0.5}}


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    write(tmp_path / "after.jsonl", [Finding("memorisation", "verbatim_f1", 0.5, "a")])
    folder = SimpleNamespace(recipe=lambda texts: None, audit_file=lambda which: tmp_path / f"{which}.jsonl")
    for out in (tmp_path / "taken", tmp_path / "taken" / "row"):
        with pytest.raises(WriteError, match="a file stands where a folder should be"):
            export(folder, "after", out)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_probability_of_nothing_is_still_json() -> None:
    found = entries([Finding("likelihood", "probability", 0.0, "a")], [])
    assert json.loads(json.dumps(found["forget_Q_A_Prob"], allow_nan=False))["value_by_index"]["0"] == {"prob": 0.0}
