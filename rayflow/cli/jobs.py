"""The commands for jobs on a cluster: submit, jobs, status, logs, cancel."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import (
    JOBS,
    Address,
    AsJson,
    ClusterEnv,
    Config,
    Date,
    DryRun,
    EntryPoint,
    Env,
    Flag,
    Follow,
    Force,
    JobId,
    Name,
    Overrides,
    Python,
    Shared,
    StopWait,
    Until,
    Wait,
    console,
)
from rayflow.core.verbatim import verbatim

if TYPE_CHECKING:
    from rayflow.config import JobConfig
    from rayflow.dist.job import Job, Request
    from rayflow.dist.jobs import JobServer
    from rayflow.pipeline.package import Package


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (submit, jobs, status, logs, cancel):
        app.command(rich_help_panel=JOBS)(command)


def submit(
    config: Config,
    address: Address = None,
    set_: Overrides = None,
    name: Name = None,
    job: EntryPoint = None,
    env: Env = None,
    cluster_env: ClusterEnv = None,
    shared: Shared = None,
    force_stage: Force = None,
    until: Until = None,
    date: Date = None,
    stop_wait: StopWait = 60,
    python: Python = "python",
    wait: Wait = False,
    follow: Follow = False,
    dry_run: DryRun = False,
) -> None:
    """Send a job to a Ray cluster. The same job that is still under way there is found, not started twice."""
    from rayflow.config import as_override
    from rayflow.dist.exposure import warnings_for
    from rayflow.dist.job import url_of
    from rayflow.dist.jobs import JobServer
    from rayflow.dist.submission import SubmitOptions, prepare

    checked, parts = _load(config, [*(set_ or []), *([as_override("name", name)] if name else [])])
    lists = {"env": env, "cluster_env": cluster_env, "shared": shared, "force": force_stage}
    given = {key: each or () for key, each in lists.items()}
    options = SubmitOptions(job=job, until=until, date=date, stop_wait_s=stop_wait, python=python, **given)
    with tempfile.TemporaryDirectory(prefix="rayflow-submit-") as folder:
        package, request = prepare(checked, Path(folder), options, parts)
        _warn(package.doubts)
        if dry_run:
            _print_package(package, request, url_of(address), options.env)
            return
        server = JobServer(address)
        _warn(warnings_for(server.address))
        found, started = server.submit(request)
    _say_submitted(server, found, started, package)
    if follow or wait:
        _finish(server, found.id, follow)
    else:
        console.print(f"  follow it  rayflow logs {found.id} -f --address {server.address}", soft_wrap=True)


def jobs(
    address: Address = None,
    all_: Annotated[bool, Flag("--all", help="Also jobs that rayflow did not submit.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a cluster, the newest first."""
    from rich.table import Table

    from rayflow.dist.jobs import JobServer

    found = [job for job in JobServer(address).jobs() if all_ or job.name]
    if as_json:
        typer.echo(json.dumps([_as_dict(job) for job in found], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "state", "started", "took", "run"):
        table.add_column(heading, overflow="fold")
    for job in found:
        table.add_row(job.id, job.state, _time(job.started), _took(job), job.root)
    console.print(table if found else "No jobs.")


def status(job_id: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """Say how a job is doing."""
    from rayflow.dist.jobs import JobServer

    server = JobServer(address)
    job = server.job(job_id)
    if as_json:
        typer.echo(
            json.dumps(_as_dict(job) | {"message": job.message, "link": server.link(job.id)}, indent=2)
        )
        return
    ended = f", exit code {job.exit_code}" if job.exit_code is not None else ""
    rows = {
        job.id: f"{job.state}{ended}",
        "started": f"{_time(job.started)}, {_took(job)}",
        "run": job.root,
        "dashboard": server.link(job.id),
        "says": job.message.strip(),
    }
    for key, value in rows.items():
        typer.echo(f"{key}  {value}")


def logs(
    job_id: JobId,
    address: Address = None,
    follow: Annotated[bool, Flag("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Show what a job has printed."""
    from rayflow.dist.jobs import JobServer

    server = JobServer(address)
    job = server.job(job_id)
    if follow:
        _finish(server, job.id, follow=True)
    else:
        _write(server.logs(job.id))


def cancel(job_id: JobId, address: Address = None) -> None:
    """End a job. What it has finished stays; submitting it again goes on from there."""
    from rayflow.dist.jobs import JobServer

    server = JobServer(address)
    job = server.job(job_id)
    if not job.finished:
        console.print(f"Asked {job.id} to end; waiting.", soft_wrap=True)
        job = server.cancel(job.id)
    console.print(f"{job.id} {job.state}", soft_wrap=True)


def _load(path: Path, overrides: list[str]) -> tuple[JobConfig, dict[str, JobConfig]]:
    """A configuration of any job, and those that it is made of, if it is a study."""
    from rayflow.config import load_config, schema_of
    from rayflow.config.study import StudyConfig
    from rayflow.study.parts import load_study

    schema = schema_of(path)
    if schema is not StudyConfig:
        return load_config(path, overrides, schema), {}
    study = load_study(path, overrides)
    return study.config, study.parts()


def _say_submitted(server: JobServer, job: Job, started: bool, package: Package) -> None:
    console.print(f"{'Submitted' if started else 'Already under way:'} [bold]{job.id}[/]", soft_wrap=True)
    console.print(f"  run        {verbatim(job.root)}", soft_wrap=True)
    console.print(f"  dashboard  {server.link(job.id)}", soft_wrap=True)
    for path in package.elsewhere:
        console.print(f"  not sent   {verbatim(path)}", soft_wrap=True)


def _finish(server: JobServer, identity: str, follow: bool) -> None:
    """Wait for a job, and end with its exit code."""
    try:
        job = server.follow(identity, _write) if follow else server.wait(identity)
    except KeyboardInterrupt:
        console.print(
            f"\nThe job goes on: rayflow logs {identity} -f shows it, rayflow cancel {identity} ends it.",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    console.print(f"{job.id} {job.state}", soft_wrap=True)
    raise typer.Exit(job.exit_status)


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        typer.echo(f"Warning: {text}", err=True)


def _print_package(package: Package, request: Request, address: str, sealed: list[str]) -> None:
    """What would be sent; of secrets only the names."""
    files = [path for path in package.folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    rows = [
        ("to", address),
        ("id", f"{request.key}-N"),
        ("command", request.entrypoint),
        ("run", request.root),
        ("package", f"{len(files)} files, {size:.1f} MiB"),
        *(("data", path) for path in package.inputs),
        *(("plug-in", name) for name in package.plugins),
        *(("not sent", path) for path in package.elsewhere),
        *(("secret", f"{name}, sealed") for name in sealed),
        *(("variable", f"{k}={v}") for k, v in request.env.items() if "SEALED" not in k),
    ]
    for key, value in rows:
        typer.echo(f"{key:<9} {value}")
    typer.echo("\n" + (package.folder / "config.yaml").read_text(encoding="utf-8"))


def _write(text: str) -> None:
    typer.echo(text, nl=False)


def _as_dict(job: Job) -> dict[str, object]:
    names = ("id", "state", "name", "root", "started", "ended", "exit_code")
    return {name: getattr(job, name) for name in names}


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"


def _took(job: Job) -> str:
    from time import time

    from rayflow.pipeline.pace import clock

    return clock((job.ended or time()) - job.started) if job.started else "-"
