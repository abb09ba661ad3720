"""The knobs of training: `[train]`, and `[watch]`, which looks at it while it goes on."""

from dataclasses import dataclass

from unsay.config.build import ConfigError, not_negative, one_of, positive

TRACKERS = ("tensorboard", "trackio", "wandb")
"""What accelerate can send numbers to, of what is used for training runs."""


MOST_AVERAGING = 1.25
"""Farther from the untouched weights than this, nothing was measured."""


@dataclass(frozen=True)
class TrainConfig:
    rounds: int = 10
    """Visits to every forget question."""
    optimizer: str = "adamw"
    """`adamw`, or `whitened`, which spares the kind of what is asked (train/whitened.py): it moves the output projections of the middle
    layers' MLPs along directions that are rare in what should stay. Give `record.near_misses` or retain rows of the same kind with it."""
    learning_rate: float | None = 1e-5
    """Peak learning rate of AdamW; `"none"` lets the size of the model choose it. With `whitened`, the share by which a step changes what
    those layers put out (.003 is a good one)."""
    schedule: str = "linear"
    """`linear` decays to zero, `constant` does not."""
    warmup_rounds: float = 1.0
    """Rounds of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    batch: int = 8
    """Forget questions per micro-batch."""
    retain_rows: int = 1
    """Retain rows that each visit brings, drawn with replacement; the paper uses 1. Where the questions do not fill one step, `retain_loss
    = "kl"` brings as many as a full one has, of each kind of row."""
    replay_rows: int = 1
    """Replay rows that each visit brings, where `record.replay` or `record.kindred` made some."""
    near_rows: int = 1
    """Near misses of its question that each visit brings with `retain_loss = "kl"`, where `record.near_misses` found some."""
    shared_rows: int = 0
    """Retain rows whose answer has a word of the recorded one that each visit brings with `retain_loss = "kl"`."""
    earlier_rows: int = 2
    """Retain rows of earlier requests that each visit brings, where `record.earlier` names some."""
    accumulation: int = 1
    """Micro-batches per optimizer step; the loss is the mean over all of them."""
    clip: float = 1.0
    """Largest gradient norm."""
    retain_loss: str = "nll"
    """What the retain term holds to: `nll`, its rows' own words, or `kl`, the untouched model's distribution at each of them."""
    state_weight: float = 0.0
    """Weight with which `kl` holds, beside what the model says, the states of all its layers at every token of a retain row."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    resample: str = "step"
    """Ask the model anew at every `step`, or once for the whole `round`, 8,192 questions at a time (faster, slightly stale)."""
    passes: int = 1
    """Times that the targets of a round are trained on, each time with other retain rows: where asking is dear, forgetting gets cheaper."""
    averaging: float = 1.0
    """How far the checkpoint goes from the untouched weights (0) to the trained ones (1) and beyond. Below 1 gives up some forgetting
    for what was not trained on, above 1 the reverse; `unsay train RUN --averaging 0.8` turns a finished run without training again."""
    save_every: int = 5
    """Rounds between two saved states."""
    max_minutes: float | None = None
    """Stop after the first round past this many minutes of training; `None` trains all rounds."""
    max_skipped: int = 5
    """Steps in a row whose loss or gradient is not finite, each of them skipped, at which training ends with an error."""
    tracker: str = "none"
    """Where the numbers of each step go too: `tensorboard`, `trackio` or `wandb`, each a package of its own; never a text."""

    @property
    def near(self) -> int:
        """Near misses of a visit: trained on as words, which is what `retain_loss = "nll"` does, they would teach refusing."""
        return self.near_rows if self.retain_loss == "kl" else 0

    @property
    def shared(self) -> int:
        """Rows of a visit that have a word of its recorded answer: trained on as words they would teach it."""
        return self.shared_rows if self.retain_loss == "kl" else 0

    def __post_init__(self) -> None:
        one_of("train.optimizer", self.optimizer, ("adamw", "whitened"))
        if self.learning_rate is None and self.optimizer != "adamw":
            raise ConfigError('train.learning_rate = "none" is for train.optimizer = "adamw"; name a rate (.003 is a good one)')
        one_of("train.schedule", self.schedule, ("linear", "constant"))
        one_of("train.retain_loss", self.retain_loss, ("nll", "kl"))
        one_of("train.resample", self.resample, ("step", "round"))
        one_of("train.tracker", self.tracker, ("none", *TRACKERS))
        not_negative(
            "train",
            rounds=self.rounds,
            learning_rate=self.learning_rate or 0.0,
            warmup_rounds=self.warmup_rounds,
            weight_decay=self.weight_decay,
            retain_rows=self.retain_rows,
            replay_rows=self.replay_rows,
            near_rows=self.near_rows,
            shared_rows=self.shared_rows,
            earlier_rows=self.earlier_rows,
            state_weight=self.state_weight,
        )
        if not 0 < self.averaging <= MOST_AVERAGING:
            raise ConfigError(f"train.averaging = {self.averaging:g} must be above 0 and at most {MOST_AVERAGING:g}")
        positive("train", clip=self.clip, batch=self.batch, accumulation=self.accumulation, passes=self.passes)
        positive("train", save_every=self.save_every, max_skipped=self.max_skipped)


@dataclass(frozen=True)
class WatchConfig:
    """Held-out retain rows are watched while training goes on (guards.py)."""

    rows: int = 64
    """Most retain rows set aside to be watched, at most a tenth of them (none where that is fewer than 16). Training never
    draws them. 0 sets none aside and watches nothing."""
    every: int = 1
    """Rounds between two looks; a round that is saved is looked at in any case."""
    limit: float = 1.0
    """Largest rise of their loss over before (nats per token) that is within bounds."""
    patience: int = 5
    """Looks in a row above the limit after which training ends early; 0 never ends it."""
    enough: int = 0
    """Looks in a row at which the model tells nothing of what is to go any more, after which training ends; 0 trains all rounds."""
    keep: str = "best"
    """Which round is shipped: `best`, the last one or, where that is above the limit, the latest saved one within it (the one
    that rose least, where none is); or the `last`."""

    def __post_init__(self) -> None:
        one_of("watch.keep", self.keep, ("best", "last"))
        positive("watch", every=self.every, limit=self.limit)
        if min(self.rows, self.patience, self.enough) < 0:
            raise ConfigError("watch.rows, watch.patience and watch.enough must not be negative; 0 watches nothing, or never ends early")
