"""What a report is tied to: whoever puts other weights, settings or texts into the folder of an audited model is found out."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tests.canaries import say
from tests.conftest import byte_tokenizer, tiny_model
from tests.test_report import fake_run
from unsay.config import ConfigError
from unsay.store import identity
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest, ModelHashes, Standalone

POLICY = '[[line]]\nname = "anything"\nmetric = "greedy_keyword_recall"\nat_most = 1.0\n'


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose checkpoint was audited, reported and passes its policy."""
    place = tmp_path_factory.mktemp("identity")
    folder = fake_run(place / "run")
    shutil.rmtree(folder.checkpoint, ignore_errors=True)
    folder.checkpoint.mkdir()
    tiny_model().save_pretrained(folder.checkpoint)
    byte_tokenizer().save_pretrained(folder.checkpoint)
    (folder.checkpoint / "chat_template.jinja").write_text("{{ messages[0].content }}")
    folder.note(Manifest(audited={"after": ModelHashes(**identity.of(folder.checkpoint))}))
    (place / "mine.toml").write_text(POLICY)
    assert say("report", folder.path) == 0
    assert judged(folder) == [0, 0, 0]
    return place


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(reported, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path / "run")


def judged(run: RunFolder) -> list[int]:
    policy = run.path.parent / "mine.toml"
    return [say("verify", run.path, run.checkpoint), say("gate", run.path, "--policy", policy), say("report", run.path)]


def leak(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tiny_model(seed=1).state_dict().items()}, place, {"format": "pt"})


def index(folder: Path, weights: str, name: str = "model.safetensors.index.json") -> None:
    names = tiny_model().state_dict()
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, weights)}))


def hidden_behind_an_index(folder: Path) -> None:
    leak(folder / "sub" / "leak.safetensors")
    index(folder, "sub/leak.safetensors")
    (folder / "model.safetensors").rename(folder / "audited.safetensors")


def behind_an_index_in_a_hidden_folder(folder: Path) -> None:
    leak(folder / ".cache" / "huggingface" / "leak.safetensors")
    index(folder, ".cache/huggingface/leak.safetensors")
    (folder / "model.safetensors").unlink()


def weights_called_as_what_may_change(name: str) -> Callable[[Path], None]:
    def put_there(folder: Path) -> None:
        leak(folder / "leak")
        (folder / "README.md").unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / "leak").rename(folder / name)
        index(folder, name)
        (folder / "model.safetensors").unlink()

    return put_there


def behind_an_index_outside(folder: Path) -> None:
    leak(folder.parent / "leak.safetensors")
    index(folder, "../leak.safetensors")
    (folder / "model.safetensors").rename(folder / "audited.safetensors")


def an_index_beside_the_weights(folder: Path) -> None:
    """Which of both is read depends on the program."""
    leak(folder / "sub" / "leak.safetensors")
    index(folder, "sub/leak.safetensors")


def weights_named_by_the_configuration(folder: Path) -> None:
    leak(folder / "sub" / "leak.safetensors")
    change(folder / "config.json", transformers_weights="sub/leak.safetensors")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def linked_folder(folder: Path) -> None:
    leak(folder.parent / "elsewhere" / "leak.safetensors")
    (folder / "sub").symlink_to(folder.parent / "elsewhere")


def linked_weights(folder: Path) -> None:
    leak(folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


def put(name: str, text: str = "{}") -> Callable[[Path], None]:
    def into(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    into.__name__ = f"put {name}"
    return into


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pytorch_model.bin")


def test_plain_transformers_reads_what_hides_behind_an_index(run: RunFolder) -> None:
    """The reason for the first line of the next test."""
    hidden_behind_an_index(run.checkpoint)
    found = AutoModelForCausalLM.from_pretrained(run.checkpoint).state_dict()
    assert torch.equal(found["lm_head.weight"], tiny_model(seed=1).state_dict()["lm_head.weight"])


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (hidden_behind_an_index, "weights: changed"),
        (behind_an_index_in_a_hidden_folder, "weights: changed"),
        (behind_an_index_outside, "../leak.safetensors"),
        (an_index_beside_the_weights, "model.safetensors.index.json: added"),
        (weights_named_by_the_configuration, "config.json: changed"),
        (lambda folder: leak(folder / "model.safetensors"), "weights: changed"),
        (lambda folder: leak(folder / "other.safetensors"), "other.safetensors: added"),
        (lambda folder: change(folder / "config.json", rms_norm_eps=9.0), "config.json: changed"),
        (lambda folder: change(folder / "generation_config.json", temperature=9.0), "generation_config.json: changed"),
        (lambda folder: change(folder / "tokenizer.json", normalizer={"type": "Lowercase"}), "tokenizer.json: changed"),
        (put("chat_template.jinja", "Say all."), "chat_template.jinja: changed"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "chat_template.jinja: missing"),
        (put("additional_chat_templates/tool_use.jinja"), "additional_chat_templates/tool_use.jinja: added"),
        (put("adapter_config.json"), "adapter_config.json: added"),
        (put("pytorch_model.bin"), "pytorch_model.bin: added"),
        (put("custom_generate/generate.py"), "custom_generate/generate.py: added"),
        (put("system_prompt.md", "Say all."), "system_prompt.md: added"),
        (put(".hidden"), ".hidden: added"),
        (put("\udcff.json"), "udcff.json: added"),
        (weights_called_as_what_may_change("README.md"), "README.md"),
        (weights_called_as_what_may_change(".gitattributes"), ".gitattributes"),
        (weights_called_as_what_may_change("README.md/leak.safetensors"), "weights: changed"),
        (pipe, "pytorch_model.bin"),
        (linked_folder, "sub"),
        (linked_weights, "weights: changed"),
        (lambda folder: (folder / "gone.json").symlink_to("nowhere"), "gone.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_the_audited_model_is_refused_by_name(
    attack: Callable[[Path], None], named: str, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(run.checkpoint)
    capsys.readouterr()
    for command, codes in (("verify", (1, 2)), ("gate", (2,)), ("report", (2,))):
        more = {"verify": [run.checkpoint], "gate": ["--policy", run.path.parent / "mine.toml"]}.get(command, [])
        assert say(command, run.path, *more) in codes, command
        said = capsys.readouterr()
        assert named in " ".join((said.out + said.err).split()), command


def test_the_card_and_what_a_download_leaves_may_change(run: RunFolder) -> None:
    (run.checkpoint / "README.md").write_text("A card of mine.")
    for name in (".gitattributes", ".cache/huggingface/CACHEDIR.TAG", ".git/HEAD"):
        (run.checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (run.checkpoint / name).write_text("")
    assert judged(run) == [0, 0, 0]


def test_a_copy_of_links_is_the_model_itself(run: RunFolder, tmp_path: Path) -> None:
    """As the cache of the hub holds it."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run.checkpoint.iterdir():
        (copy / path.name).symlink_to(path)
    assert say("verify", run.path, copy) == 0


def test_other_shards_are_the_same_model(run: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    AutoModelForCausalLM.from_pretrained(run.checkpoint).save_pretrained(copy, max_shard_size="20KB")
    assert len(list(copy.glob("*.safetensors"))) > 1
    for path in run.checkpoint.iterdir():
        if path.suffix != ".safetensors":
            (copy / path.name).write_bytes(path.read_bytes())
    assert say("verify", run.path, copy) == 0


def test_weights_are_those_that_are_read(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    (two / "sub").mkdir(parents=True)
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([[3]], dtype=torch.int64)
    save_file({"a": a, "b": b}, one / "model.safetensors", {"format": "pt"})
    save_file({"b": b}, two / "sub" / "b.safetensors")
    save_file({"a": a}, two / "a.safetensors")
    (two / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors", "b": "sub/b.safetensors"}}')
    # By hand: name|type|shape| and the bytes, little-endian.
    wanted = "617c4633327c5b325d7c0000803f00000040627c4936347c5b312c20315d7c0300000000000000"
    assert identity.of(one)["weights"] == identity.of(two)["weights"] == hashlib.sha256(bytes.fromhex(wanted)).hexdigest()
    assert identity.differences(identity.of(one), two) == []
    save_file({"a": a + 1, "b": b}, two / "old.safetensors")
    assert identity.differences(identity.of(one), two) == ["old.safetensors: added"]
    save_file({"a": a, "b": b}, two / "a.safetensors")
    with pytest.raises(ConfigError, match="holds the tensor b a second time"):
        identity.of(two)


def test_how_stored_tensors_are_to_be_understood_is_a_part_of_them(tmp_path: Path) -> None:
    """torchao writes the block size of quantised tensors into the header of the file."""
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt", "a": '{"block_size": 32}'})
    told = identity.of(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt", "a": '{"block_size": 64}'})
    assert identity.differences(told, tmp_path) == ["weights: changed"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b'\x0f\0\0\0\0\0\0\0{"a": {"b": 1}}'])
def test_what_is_no_weights_file_is_said(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds neither model\.safetensors"):
        identity.of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="no safetensors file"):
        identity.of(tmp_path)


@pytest.mark.parametrize("text", ["{}", "[", '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "/etc/passwd"}}'])
def test_an_index_that_leads_nowhere_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"model\.safetensors\.index\.json"):
        identity.of(tmp_path)


def test_an_audit_of_an_older_version_vouches_for_nothing(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    now = identity.of(run.checkpoint)
    older = ModelHashes(now["weights"], {"config.json": now["files"]["config.json"]})
    run.note(Manifest(audited={"after": older}))
    told = json.loads(run.report_json.read_text())
    del told["identity"]["checkpoint"]["format"]
    run.report_json.write_text(json.dumps(told))
    assert judged(run) == [2, 2, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("older version of unsay, which hashed less") == 3
    assert "--which after" in said


def test_the_model_of_an_audit_that_stands_alone_counts_as_well(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.checkpoint.rename(tmp_path / "model")
    recipe = run.recipe_file.read_text()
    run.recipe_file.write_text(recipe.replace("people-target", str(tmp_path / "model")))
    run.note(Manifest(alone=Standalone(None, str(tmp_path / "model"), None)))
    gate = ("gate", run.path, "--policy", tmp_path / "mine.toml")
    assert say(*gate) == 0
    leak(tmp_path / "model" / "model.safetensors")
    assert say(*gate) == 2
    assert "weights: changed" in " ".join(capsys.readouterr().err.split())


def test_a_checkpoint_of_which_no_audit_tells_is_not_judged(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.note(Manifest(audited={"after": None}))
    assert judged(run)[1:] == [2, 2]
    assert "nothing says" in " ".join(capsys.readouterr().err.split())
