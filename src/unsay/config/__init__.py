"""Every knob of a run: `knobs` declares them, `toml` reads and writes them, `build` checks them."""

from unsay.config.build import ConfigError, build
from unsay.config.knobs import (
    AuditConfig,
    DeploymentConfig,
    FinetuneConfig,
    LoraConfig,
    ModelConfig,
    Recipe,
    RecordConfig,
    ReportConfig,
    SampleConfig,
    TrainConfig,
    VaultConfig,
    WatchConfig,
)
from unsay.config.toml import dump, load

__all__ = [
    "AuditConfig",
    "ConfigError",
    "DeploymentConfig",
    "FinetuneConfig",
    "LoraConfig",
    "ModelConfig",
    "Recipe",
    "RecordConfig",
    "ReportConfig",
    "SampleConfig",
    "TrainConfig",
    "VaultConfig",
    "WatchConfig",
    "build",
    "dump",
    "load",
]
