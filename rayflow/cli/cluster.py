"""The commands about clusters: cluster render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayflow.cli.options import JOBS, console
from rayflow.core.verbatim import verbatim

if TYPE_CHECKING:
    from rayflow.cluster.options import ClusterOptions
    from rayflow.config import RunConfig
    from rayflow.config.evaluate import EvaluateConfig

Gpus = int | None

cluster = typer.Typer(help="Manifests for a GPU cluster.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(cluster, name="cluster", rich_help_panel=JOBS)


@cluster.callback()
def _group() -> None:
    """Manifests for a GPU cluster."""


@cluster.command()
def render(
    gpus_sampling: Annotated[Gpus, typer.Option(min=1, help="GPUs that sample.")] = None,
    gpus_reward: Annotated[Gpus, typer.Option(min=0, help="GPUs that score; default: CPUs do.")] = None,
    gpus_train: Annotated[
        Gpus, typer.Option(min=1, help="GPUs that train and compute the reference.")
    ] = None,
    gpus: Annotated[Gpus, typer.Option(min=1, help="Instead of these: GPUs that all stages share.")] = None,
    gpus_per_node: Annotated[Gpus, typer.Option(min=1, help="Most GPUs of one machine; default: 8.")] = None,
    gpu_type: Annotated[
        str | None, typer.Option(help="H200, H100, A100, L40S, A10G or L4; default: any.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image with rayflow, see cluster/Dockerfile.gpu.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="The job's configuration, a file of the image or on its shared storage; its reward decides on pools."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a=value", help="Any setting of ClusterOptions; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("cluster-manifests"),
) -> None:
    """Write KubeRay, Kubernetes and `ray up` files and the matching compute block, from one sizing."""
    from rayflow.cluster.options import ClusterOptions
    from rayflow.cluster.render import write
    from rayflow.config.load import load_options

    given = {
        "gpus_sampling": gpus_sampling,
        "gpus_reward": gpus_reward,
        "gpus_train": gpus_train,
        "gpus": gpus,
        "gpus_per_node": gpus_per_node,
        "gpu_type": gpu_type,
        "image": image,
    }
    data = {key: value for key, value in given.items() if value is not None}
    data |= _of_job(config) if config is not None else {}
    options = load_options(data, set_, ClusterOptions, "The cluster")
    for path in write(options, output):
        console.print(verbatim(path), soft_wrap=True)
    warn_of_pods(options)
    command = f"rayflow {options.command} {options.config} --set @{output / 'compute.yaml'} --dry-run"
    console.print(f"\nDoes every stage find its place? {verbatim(command)}", soft_wrap=True)


def _of_job(path: Path) -> dict[str, Any]:
    """What a job's configuration says about its cluster: its command, its engine's GPUs, its reward."""
    from rayflow.config import RunConfig, load_config, schema_of
    from rayflow.config.evaluate import EvaluateConfig
    from rayflow.config.load import command_of
    from rayflow.errors import ConfigError

    command = command_of(path)
    if command == "study run":
        raise ConfigError(
            f"{path} does not say what a cluster needs: give a configuration of a run, a refresh, an evaluation or "
            "a reward; of a study, that of its runs."
        )
    job = load_config(path, None, schema_of(path))
    told: dict[str, Any] = {"config": str(path), "command": command}
    if command == "refresh":
        told["refresh_config"] = str(path)
    if isinstance(job, RunConfig):
        return told | _of_sampling(job, [job.reward] if job.reward is not None else [])
    return told | (_of_sampling(job, list(job.rewards.values())) if isinstance(job, EvaluateConfig) else {})


def _of_sampling(job: RunConfig | EvaluateConfig, given: list[Any]) -> dict[str, Any]:
    """What follows from the engine, and from the most demanding one of the rewards."""
    from rayflow.core.options import build
    from rayflow.rewards.base import is_pairwise

    held = [reward for reward in (build("reward", each) for each in given) if reward.models]
    kind = "none" if not held else "pairwise" if any(map(is_pairwise, held)) else "model"
    engine = job.sample.engine
    spread = getattr(engine, "tensor_parallel_size", 1)
    return {"engine": engine.kind, "reward": kind, "tensor_parallel": spread}


def warn_of_pods(options: ClusterOptions, folder: Path = Path()) -> None:
    """Say what the pods may not have: the configuration, and its models, where it can be read here.

    Args:
        options: the cluster's.
        folder: where relative paths of configurations start.
    """
    from rayflow.cluster.options import SHARED, WORKDIR
    from rayflow.config import load_config, schema_of
    from rayflow.pipeline.named import walk
    from rayflow.pipeline.reach import laptop_models

    own = [] if options.model is None else [f"model={options.model}"]
    for path in dict.fromkeys((options.config, options.refresh_config)):
        if not (folder / path).is_file():
            continue
        job = load_config(folder / path, own, schema_of(folder / path))
        for model, names in laptop_models(walk(job), [SHARED]).items():
            mend = "--set model=ORG/NAME, an id of the hub" if names == ["model"] else "write a hub id there"
            typer.echo(
                f"Warning: {path}: {' and '.join(names)} is '{model}', a path of this machine, and models are not "
                f"sent. Every pod must have it; if not: {mend}, or a folder under {SHARED}.",
                err=True,
            )

    if not options.config.startswith(("jobs/", f"{SHARED}/", f"{WORKDIR}/")):
        told = f"the pods start in {WORKDIR} and see {SHARED}: put {options.config}, its data and its code there."
        typer.echo(f"Warning: {told}", err=True)
