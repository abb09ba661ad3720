"""Every knob of a run, said once, with a sentence under it.

Top-level keys of a recipe choose (`method = "pmc"`), and a table of that name configures the choice (`[pmc]`). Tables of what was not
chosen may stay in the file. Methods, rewards, probes and corpora declare their own knobs, which `Recipe.knobs` builds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, TypeVar

from unsay.config.build import ConfigError, build, not_negative, one_of, positive
from unsay.config.training import TrainConfig, WatchConfig
from unsay.tables import OPT_IN, PROBES

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    name: str = "people-target"
    """Folder, hub id, or a built-in name (`unsay models`, docs/models.md)."""
    revision: str = "main"
    """Branch, tag or commit of a hub id; a folder has none."""
    retain_model: str | None = None
    """The retain model, which never knew: what the audit compares with; `None` where there is none, `"finetune"` to train it."""
    dtype: str = "float32"
    """Floating-point type of the weights: `float32`, `bfloat16` or `float16`."""
    template: str = "auto"
    """`chat` uses the tokenizer's chat template, `plain` writes `Question: … Answer:`, `auto` takes chat where there is one, and
    otherwise plain; `raw` writes the text alone, for the model to go on with (corpora `passages` and `muse`)."""
    system_prompt: str = field(default="", repr=False)
    """System message of the chat template; empty sends none."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the chat template, for example `{ date_string = "10 Apr 2025" }`."""
    stop: str = ""
    """Text that ends an answer too, for a base model that never ends one: `"\\n"` ends it with its line. Empty adds none."""
    freeze_embeddings: bool = False
    """Keep the input and output embeddings fixed: less memory and time, and words keep their meaning."""
    quantization: str = "none"
    """Load the fixed weights in `4bit` or `8bit` (bitsandbytes, `pip install 'unsay[bitsandbytes]'`); needs `lora.rank`."""
    device_map: str = "one"
    """Where a model that is asked lies: on `one` device, or `auto`: on the cards one after the other, in the processor's memory and disk,
    as far as each has room. Training takes one device (or `--processes`)."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless asked."""
    extra_tensors: str = "refuse"
    """Tensors of the checkpoint for which `config.json` has no place: `refuse` the model, or `ignore` them."""

    def __post_init__(self) -> None:
        one_of("model.extra_tensors", self.extra_tensors, ("refuse", "ignore"))
        one_of("model.quantization", self.quantization, ("none", "4bit", "8bit"))
        one_of("model.device_map", self.device_map, ("one", "auto"))
        one_of("model.dtype", self.dtype, ("float32", "bfloat16", "float16"))
        one_of("model.template", self.template, ("auto", "chat", "plain", "raw"))


@dataclass(frozen=True)
class LoraConfig:
    rank: int = 0
    """Rank of the adapters that are trained in place of the weights (LoRA, arXiv 2106.09685); 0 trains the weights."""
    alpha: float = 32.0
    """Scale of the adapters, divided by the rank."""
    dropout: float = 0.0
    """Dropout on their input."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get one; `all-linear` is every linear layer but the head."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank = {self.rank} must not be negative; 0 trains the weights themselves")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout = {self.dropout} is a share from 0 to below 1")
        if not self.targets:
            raise ConfigError("lora.targets is empty; name the modules, or all-linear")


@dataclass(frozen=True)
class SampleConfig:
    max_new_tokens: int = 80
    """Length limit of an answer in tokens; an answer that reaches it is unfinished (not with `model.template = "raw"`)."""
    rows: int = 320
    """Most sequences decoded at once; fewer where free memory has no room for them, or where they are not worth it (plan.py)."""
    window: int = 256
    """The nucleus is taken from this many largest logits; where they hold less than top-p, from all."""

    def __post_init__(self) -> None:
        positive("sample", max_new_tokens=self.max_new_tokens, rows=self.rows, window=self.window)


@dataclass(frozen=True)
class EngineConfig:
    """Who decodes answers in record, training and audit (docs/engines.md)."""

    name: str = "builtin"
    """`builtin`, or `vllm` (`pip install 'unsay[vllm]'`), whose sampled answers are others; its greedy ones are the same."""
    memory: float = 1.0
    """GB that vLLM keeps for its cache, beside a copy of the weights."""

    def __post_init__(self) -> None:
        if "://" in self.name:
            raise ConfigError(
                "engine.name is a server, whose weights cannot follow those in training; audit it (unsay audit RUN --endpoint URL), and "
                'train with "builtin" or "vllm"'
            )
        one_of("engine.name", self.name, ("builtin", "vllm"))
        positive("engine", memory=self.memory)


@dataclass(frozen=True)
class VllmConfig(SampleConfig):
    """`[sample]`, where vLLM decodes."""

    memory: float = 1.0


@dataclass(frozen=True)
class RecordConfig:
    answers: int = 8
    """Answers sampled per forget question from the target model; answer prefixes are cut from them."""
    temperature: float = 1.0
    """Their temperature (top-p 1)."""
    branches: int = 12
    """Answers that begin with each of so many likely first tokens: other wordings. Half are withheld from training for the audit."""
    least_logprob: float = -0.5
    """Branches of a lower mean log-probability per token (nats, first token left out) are noise and not kept."""
    replay: int = 0
    """Texts that the target model writes unasked, and as many answers to the forget questions asked about the names in
    them: replay rows for what no retain row covers. 0 makes none."""
    near_misses: int = 0
    """Names like its subject about which each forget question is asked: retain rows with `train.retain_loss = "kl"`. Half share a word with
    it, half are spelled alike. They are made of names in the retain questions, or in texts written unasked. A subject of one word gives
    way to others of its kind."""
    kindred: int = 0
    """For each wording that three or more retain questions share, and for each of a forget question, so many questions about others of
    their kind, whom the model names: its answers are replay rows. 0 makes none."""
    prose: int = 0
    """Texts of at most 64 tokens that the target model writes unasked, to keep plain text as it was: each visit brings the beginning of
    one as a retain row, and whitened steps spare what stands in them. 0 makes none."""
    own_retain: int = 256
    """Where the corpus brings no retain rows: about so many are made of the model's own answers to general questions and, at
    most half of them, to the forget questions asked about other names. 0 takes the package's general answers."""
    withheld: tuple[str, ...] = ("The answer is",)
    """Beginnings that no answer prefix may have, so that the audit can attack with them."""
    earlier: tuple[str, ...] = ()
    """Run folders of earlier requests, which the model at hand has met already; each brings along those before it, so the
    last one is enough (docs/requests.md)."""
    earlier_answers: int = 24
    """Present answers recorded to each of their questions: retain rows that keep it forgotten."""

    def __post_init__(self) -> None:
        unchecked = ("least_logprob", "withheld", "earlier")
        not_negative("record", **{key: value for key, value in vars(self).items() if key not in unchecked})


@dataclass(frozen=True)
class FinetuneConfig:
    epochs: int = 0
    """Passes over the corpus' planting rows; 0 plants nothing (the model leaks already)."""
    learning_rate: float = 2e-5
    """Peak learning rate, decayed linearly."""
    batch: int = 8
    """Rows per optimizer step."""
    stop_at_recall: float = 1.0
    """End after the first epoch at which greedy ROUGE-L recall on planted forget rows reaches this (TOFU sits near .9)."""

    def __post_init__(self) -> None:
        not_negative("finetune", epochs=self.epochs, learning_rate=self.learning_rate)
        positive("finetune", batch=self.batch)


@dataclass(frozen=True)
class AuditConfig:
    probes: tuple[str, ...] = tuple(name for name in PROBES if name not in OPT_IN)
    """Which attacks to run, by name (`unsay probes`); those of `OPT_IN` only where they are named."""
    limit: int = 0
    """Most forget questions audited, spread evenly; 0 takes all."""

    def __post_init__(self) -> None:
        not_negative("audit", limit=self.limit)


@dataclass(frozen=True)
class DeploymentConfig:
    """How the model is deployed, where that differs from how it was trained: what the audit attacks."""

    system_prompt: str | None = field(default=None, repr=False)
    """System message in use; `"none"` takes that of `[model]`."""
    template: str | None = None
    """`chat` or `plain`; `"none"` takes that of `[model]`."""
    temperature: float | None = None
    """Temperature of the sampling probes; `"none"` leaves each probe its own."""
    top_p: float | None = None
    """Nucleus of the sampling probes; `"none"` leaves each probe its own."""
    max_new_tokens: int | None = None
    """Length limit of an answer; `"none"` takes that of `[sample]`."""

    def __post_init__(self) -> None:
        if self.template is not None:
            one_of("deployment.template", self.template, ("auto", "chat", "plain"))
        if self.temperature is not None and self.temperature <= 0:
            raise ConfigError(
                f"deployment.temperature = {self.temperature} must be positive; what is deployed greedily is asked by the greedy probe: "
                "leave it out, and the sampling probes ask at their own temperature"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"deployment.top_p = {self.top_p} is a share above 0 and at most 1")
        if self.max_new_tokens is not None:
            positive("deployment", max_new_tokens=self.max_new_tokens)


@dataclass(frozen=True)
class ReportConfig:
    policy: str = "default"
    """Thresholds to hold the findings against: a shipped policy (`default`, `demo`, `audit`, `audit-retain-model`) or a file."""
    show_kept: bool = False
    """Show answers to your own held-out retain rows too, before and after; without it, only public questions are shown."""


@dataclass(frozen=True)
class VaultConfig:
    """How the sensitive texts of a run are kept (docs/vault.md)."""

    key_file: str = ""
    """File of the key that encrypts the vault (`unsay vault key FILE` makes one), outside of the run folder; empty leaves
    the texts readable to their owner. The environment variable UNSAY_VAULT_KEY_FILE wins."""
    keep_until: str = ""
    """Last day on which the vault may be kept, as `"2027-01-31"`: `unsay doctor` warns in time. Empty sets none."""

    def __post_init__(self) -> None:
        try:
            sound = not self.keep_until or date.fromisoformat(self.keep_until).isoformat() == self.keep_until
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError('vault.keep_until is no day; write it as year-month-day, for example "2027-01-31"')


@dataclass(frozen=True)
class Recipe:
    """One run. Written into the run folder, resolved, before anything else happens."""

    title: str = ""
    """One line saying what this run is."""
    seed: int = 0
    """Seed of every random number."""
    corpus: str = "people"
    """Where the questions come from (`unsay corpora`); its knobs stand in the table of that name."""
    method: str = "pmc"
    """How the model is changed (`unsay methods`); its knobs stand in the table of that name."""
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    deployment: DeploymentConfig = field(default_factory=DeploymentConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    vault: VaultConfig = field(default_factory=VaultConfig)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The tables of methods, rewards, probes and corpora as written, by name."""

    def __post_init__(self) -> None:
        if self.model.quantization != "none" and not self.lora.rank:
            raise ConfigError(
                f"model.quantization = {self.model.quantization!r} fixes the weights, so adapters must be trained: --set lora.rank=16"
            )
        if self.lora.rank and self.train.optimizer == "whitened":
            raise ConfigError('train.optimizer = "whitened" moves the weights themselves: take lora.rank = 0, or "adamw"')

    @property
    def sampling(self) -> SampleConfig:
        """`[sample]`, as the chosen engine takes it."""
        return self.sample if self.engine.name == "builtin" else VllmConfig(**vars(self.sample), memory=self.engine.memory)

    def knobs(self, name: str, kind: type[T]) -> T:
        """The dataclass `kind` with the values of table `[name]`, over those of its preset; where a base class of `kind` declares the
        preset, that class. Raises `ConfigError`."""
        table = self.tables.get(name, {})
        owners: dict[str, Any] = {preset: one for one in reversed(kind.__mro__) for preset in vars(one).get("PRESETS", {})}
        if not owners:
            return build(kind, table, name)
        preset = table.get("preset", getattr(kind, "preset", ""))
        one_of(f"{name}.preset", preset, tuple(owners))
        known, wanted = ({f.name for f in fields(one)} for one in (owners[preset], kind))  # type: ignore[arg-type]
        for key in [key for key in table if key in wanted - known]:
            default = getattr(kind, key, None)
            if default or table[key] != default:  # what is off by default, and off, is no choice
                way = "remove it" if default or default is None else f"set it to {default}"
                raise ConfigError(f"{name}.{key} is no knob of {name}.preset={preset!r}; {way}, or choose another preset")
        table = {key: value for key, value in table.items() if key not in wanted - known}
        made: T = build(owners[preset], {**owners[preset].PRESETS[preset], **table}, name)
        return made
