"""The files of a cluster, consistent with each other because they come from one sizing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rayflow.cluster.cron import cron_job
from rayflow.cluster.kuberay import ray_cluster, ray_cron_job, ray_job
from rayflow.cluster.kubernetes import config_map, network_policy, volume_claim
from rayflow.cluster.options import SHARED, WORKDIR, ClusterOptions
from rayflow.cluster.pods import COMPUTE, USER
from rayflow.cluster.ray_up import DEFAULT_GPU, ray_up
from rayflow.cluster.sizing import compute_settings, groups

# Each says what the file is, what must be there before it, and what to do.
_NOTES: dict[str, str] = {
    "compute.yaml": """
The settings of a run on this cluster, over those of any configuration:
  rayflow {command} CONFIG --set @compute.yaml          (--dry-run first: does every stage find its place?)
The cluster's pods see this file as {compute}.
""",
    "storage.yaml": """
The storage that every machine mounts at {shared}. Its class must offer ReadWriteMany (NFS, EFS, Filestore, CephFS),
and its root must be writable by user {user}.
""",
    "config.yaml": """
compute.yaml for the pods. Apply it again after a change; a running job keeps what it has read.
""",
    "network-policy.yaml": """
Who reaches the cluster's ports: its own pods, the KubeRay operator the dashboard's, and Prometheus the metrics' where
its namespace is named (--set metrics_namespace=monitoring). It takes effect where the network plug-in of the
Kubernetes cluster enforces policies.
""",
    "raycluster.yaml": """
A cluster that stays (KubeRay 1.6 or newer). Before it, once: storage.yaml, config.yaml, network-policy.yaml, and
  kubectl create secret generic {token_secret} --from-literal=auth_token="$(openssl rand -hex 32)"
  kubectl create secret generic {env_secret} --from-literal=HF_TOKEN=...      (if models or rewards ask for one)
GPU machines are started by the work that asks for them, and given back when they are idle. Nothing is exposed:
  kubectl port-forward service/{name}-head-svc 8265
GCS fault tolerance needs a Redis (--set redis_address=redis:6379, password in the Secret {name}-redis). Without it
a lost head ends the running job and nothing else: the same command goes on from the committed shards and checkpoints.
""",
    "rayjob.yaml": """
One job on a cluster of its own, which is removed after it. Needs all that raycluster.yaml needs, not raycluster.yaml,
a model that the pods can load: a hub id, or a folder on the shared storage (--set model=...); and the configuration,
its data and its code in the image ({workdir}) or on the shared storage (--config {shared}/mine.yaml).
""",
    "cronjob.yaml": """
The nightly refresh on a cluster of its own each time: a pod creates a RayJob, waits for it and ends as it does. Needs
all that rayjob.yaml needs. Recommended: it never overlaps itself, and says what becomes of a night that was missed.
To end a night early, delete its Job (kubectl get jobs): the RayJob of the same name belongs to it and goes with it,
as it does when Kubernetes removes the Job, after a week or after three later ones. A night that the gate held back, or
that another refresh was in the way of, fails like any other, and is not tried again on another cluster; a head that
does not come up within two hours fails it, too.
""",
    "raycronjob.yaml": """
The nightly refresh on a cluster of its own each time, instead of cronjob.yaml. Alpha: the operator's feature gate
RayCronJob is off by default, and the kind knows no concurrency policy and no deadline: nights may overlap, and after
a pause of the operator every missed one is made up for. The day is that of the latest planned time when a job is
submitted: one that is submitted after the next planned time is for the next day.
""",
    "ray-up.yaml": """
The same cluster without Kubernetes, on AWS ({aws_gpu}). Before it: set ami (Ubuntu with NVIDIA's driver and Docker)
and nfs (its root writable by user {user}), and make the token that is copied to every machine.
  ray get-auth-token --generate
  ray up ray-up.yaml
  ray rsync-up ray-up.yaml compute.yaml {workdir}/compute.yaml
  ray exec ray-up.yaml "env -C {workdir} rayflow {command} {config} --set @compute.yaml"
`ray dashboard ray-up.yaml` opens the way to the dashboard and the job server through SSH; no port is open otherwise.
Variables such as HF_TOKEN are not carried there: send them with a job (rayflow submit --env HF_TOKEN).
""",
}


def render(options: ClusterOptions) -> dict[str, str]:
    """All files by name.

    Raises:
        ConfigError: the sizing cannot be built; see `sizing.groups` and `ray_up.ray_up`.
    """
    compute = _text(options, "compute.yaml", compute_settings(options))
    documents: dict[str, Any] = {
        "storage.yaml": volume_claim(options),
        "config.yaml": config_map(options, compute),
        "network-policy.yaml": network_policy(options),
        "raycluster.yaml": ray_cluster(options),
        "rayjob.yaml": ray_job(options),
        "cronjob.yaml": cron_job(options),
        "raycronjob.yaml": ray_cron_job(options),
        "ray-up.yaml": ray_up(options),
    }
    return {"compute.yaml": compute} | {name: _text(options, name, data) for name, data in documents.items()}


def write(options: ClusterOptions, folder: Path) -> list[Path]:
    """Write all files; returns their paths."""
    files = render(options)  # whole before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _text(options: ClusterOptions, name: str, data: dict[str, Any]) -> str:
    size = ", ".join(f"{g.name} {g.count} x {g.gpus} GPUs" for g in groups(options))
    lines = [
        *_note(options, name).splitlines(),
        f"Rendered by `rayflow cluster render` for: {size}.",
    ]
    parts = data if isinstance(data, list) else [data]
    body = yaml.dump_all(parts, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + body


def _note(options: ClusterOptions, name: str) -> str:
    places = {"shared": SHARED, "workdir": WORKDIR, "compute": COMPUTE, "user": USER}
    settings = {**options.model_dump(), "aws_gpu": options.gpu_type or DEFAULT_GPU}
    return _NOTES[name].strip().format(**places, **settings)


class _Dumper(yaml.SafeDumper):
    """Repeats what appears twice, and writes longer texts as blocks, for people to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _string)
