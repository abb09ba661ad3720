"""Every knob of a run: `knobs` declares them, `toml` reads and writes them, `build` checks them."""

from unsay.config.build import ConfigError, build, first_of
from unsay.config.knobs import (
    AuditConfig,
    DeploymentConfig,
    EngineConfig,
    FinetuneConfig,
    LoraConfig,
    ModelConfig,
    Recipe,
    ReportConfig,
    SampleConfig,
    VllmConfig,
)
from unsay.config.shipped import recipe_names, recipe_path, recipes_folder
from unsay.config.toml import dump, load, obsolete_knobs
from unsay.config.training import TrainConfig, WatchConfig

__all__ = [
    "AuditConfig",
    "ConfigError",
    "DeploymentConfig",
    "EngineConfig",
    "FinetuneConfig",
    "LoraConfig",
    "ModelConfig",
    "Recipe",
    "ReportConfig",
    "SampleConfig",
    "TrainConfig",
    "VllmConfig",
    "WatchConfig",
    "build",
    "dump",
    "first_of",
    "load",
    "obsolete_knobs",
    "recipe_names",
    "recipe_path",
    "recipes_folder",
]
