"""The border: one YAML file becomes one frozen configuration, or a sentence that says what to mend.

Nothing heavy is imported here, so a configuration is checked in well under a second, before any cluster.
"""

from rayflow.config.blocks import (
    ComputeOptions,
    EvaluationOptions,
    NodeOptions,
    PoolOptions,
    PromptOptions,
    PromptSource,
    ReferenceOptions,
    RoundOptions,
    SampleOptions,
)
from rayflow.config.load import Config, load_config, override, schema_of
from rayflow.config.run import JobConfig, RunConfig
from rayflow.config.settings import as_override

__all__ = [
    "Config",
    "ComputeOptions",
    "EvaluationOptions",
    "JobConfig",
    "NodeOptions",
    "PoolOptions",
    "PromptOptions",
    "PromptSource",
    "ReferenceOptions",
    "RoundOptions",
    "RunConfig",
    "SampleOptions",
    "as_override",
    "load_config",
    "override",
    "schema_of",
]
