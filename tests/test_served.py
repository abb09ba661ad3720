"""A real server process on the loopback address says what the local model says, and is audited."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli import call
from unsay.audit.endpoint import EndpointConfig, EndpointSubject
from unsay.config import ModelConfig, SampleConfig
from unsay.corpora.people import People
from unsay.lm import builtin
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject, Prompt

pytest.importorskip("openai")
pytest.importorskip("uvicorn", reason="`transformers serve` needs uvicorn and fastapi")
pytest.importorskip("fastapi", reason="`transformers serve` needs uvicorn and fastapi")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}Question: {{ m['content'] }}\nAnswer:"
    "{% else %} {{ m['content'] }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`transformers serve` with the built-in target model, given a chat template that writes the plain one: URL and name."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(builtin.resolve("people-target"), folder)
    for name, values in (("tokenizer_config", {"chat_template": TEMPLATE}), ("generation_config", {"do_sample": True, "top_k": 0})):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    if not program.exists():
        pytest.skip("no `transformers` command beside this Python")
    log = folder.parent / "log"
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as out, subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    pytest.fail(f"`transformers serve` ended: {log.read_text()[-300:]}")
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            else:
                pytest.fail("`transformers serve` did not come up within two minutes")
            yield f"http://127.0.0.1:{port}", str(folder)
        finally:
            process.terminate()


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_real_server_says_what_the_model_says(real: tuple[str, str], api: str) -> None:
    local = LocalSubject(*load(ModelConfig()), SampleConfig())
    prompts = [Prompt(e.id, e.question) for e in People().corpus().forget[::8]]
    begun = [Prompt(p.key, p.question, "The answer is") for p in prompts[:3]]
    served = EndpointSubject(EndpointConfig(real[0], real[1], api), SampleConfig())
    for asked in (prompts, begun):
        assert [a.text for (a,) in served.ask(asked)] == [a.text for (a,) in local.ask(asked)]
    assert served.samples


@pytest.mark.slow
def test_a_real_server_is_audited(real: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    small = [
        "audit.limit=2",
        "sampling.n=2",
        "prefill.n=2",
        "utility.limit=2",
        "record.answers=2",
        "record.branches=2",
        "record.replay=0",
    ]
    call("record", "demo", "--out", out, *(part for setting in small for part in ("--set", setting)))
    call("audit", out, "--endpoint", real[0], "--model", real[1])
    call("report", out)
    metrics = json.loads((tmp_path / "run" / "report.json").read_text())["metrics"]
    assert metrics["greedy_keyword_recall"]["endpoint"] == metrics["sampling_worst_keyword_recall"]["endpoint"] == 1.0
    assert metrics["prefill_worst_keyword_recall"]["endpoint"] == metrics["wellformed_share"]["endpoint"] == 1.0
    assert metrics["multiple_choice_most"]["endpoint"] is metrics["relearn_keyword_recall"]["endpoint"] is None
    written = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.json*") if "vault" not in path.parts)
    assert not [e.question for e in People().corpus().forget if e.question in written]
