"""The pods of a cluster: what all of them have in common, and what a head, a worker and a submitter need."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from rayflow.cluster.gpus import find_gpu
from rayflow.cluster.options import SHARED, WORKDIR, ClusterOptions
from rayflow.cluster.sizing import Group

Manifest = dict[str, Any]
COMPUTE = "/etc/rayflow/compute.yaml"
"""Where the pods see the rendered settings."""
USER = 1000
"""The user of the images."""
_GRACE_SECONDS = 60


def labels(options: ClusterOptions, role: str | None = None) -> dict[str, str]:
    """Labels of everything that belongs to a cluster, and of one role in it."""
    # Keys of our own: the operator sets the well-known ones on pods, and selects by them.
    return {"rayflow-cluster": options.name} | ({"rayflow-role": role} if role else {})


def names(options: ClusterOptions) -> dict[str, str]:
    """Names of the objects that the pods refer to."""
    return {"volume": f"{options.name}-shared", "compute": f"{options.name}-compute"}


def job_line(options: ClusterOptions, command: str | None = None, at: str | None = None) -> str:
    """What a job runs on the cluster, as a line of shell in the project's folder, where paths in configurations start.

    A refresh is for the day of its schedule's latest time: up to `at`, a word for seconds since 1970, or up to now.
    """
    command = command or options.command
    config = options.refresh_config if command == "refresh" else options.config
    model = [] if options.model is None else ["--set", f"model={options.model}"]
    line = shlex.join(["env", "-C", WORKDIR, "rayflow", command, config, "--set", f"@{COMPUTE}", *model])
    day = scheduled_day(options.schedule, options.time_zone, at=at)
    return f"{line} --date {day}" if command == "refresh" else line


def scheduled_day(
    cron: str, time_zone: str, program: Sequence[str] = ("rayflow",), at: str | None = None
) -> str:
    """A shell's word for the day of a schedule's latest time, as the clocks of its zone show it.

    Not the day of the start: what starts late is for the day that it was planned for. With `at`, the time up to
    which is looked, it is also the same word whenever the shell comes to it.
    """
    until = [] if at is None else ["--at", at]
    return f'"$({shlex.join([*program, "schedule", "day", cron, "--timezone", time_zone, *until])})"'


def head_pod(options: ClusterOptions) -> Manifest:
    """The head: the driver of every job, and the light tasks. It holds no GPU."""
    container = _container(options, "ray-head", options.head_image or options.image)
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "client", "containerPort": 10001},
    ]
    # As many CPUs again as Ray may give to tasks: the driver, the job server and the scheduler need their own.
    size = {"cpu": str(2 * options.head_cpus), "memory": f"{options.head_memory}Gi"}
    container["resources"] = {"limits": size, "requests": dict(size)}
    return _template(options, "head", container)


def worker_pod(options: ClusterOptions, group: Group) -> Manifest:
    """A worker: one machine of a group."""
    container = _container(options, "ray-worker", options.image)
    size = {"cpu": str(group.cpus), "memory": f"{group.memory}Gi", "nvidia.com/gpu": str(group.gpus)}
    container["resources"] = {"limits": size, "requests": dict(size)}
    template = _template(options, group.name, container)
    # The autoscaler counts on a pod that ends staying ended.
    template["spec"] |= {"restartPolicy": "Never", "automountServiceAccountToken": False}
    template["spec"]["tolerations"] = [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    if options.node_selector:
        template["spec"]["nodeSelector"] = dict(options.node_selector)
    if options.gpu_type is not None:
        products = list(find_gpu(options.gpu_type).products)
        match = {"key": "nvidia.com/gpu.product", "operator": "In", "values": products}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [match]}]}
        template["spec"]["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        }
    return template


def submitter_pod(options: ClusterOptions, container: Manifest) -> Manifest:
    """A pod that submits a job and waits for it; `container` says what it runs."""
    common = {
        "image": options.head_image or options.image,
        "securityContext": _container_security(),
        "resources": {
            "limits": {"cpu": "1", "memory": "2Gi"},
            "requests": {"cpu": "200m", "memory": "512Mi"},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": _pod_security(),
        "containers": [container | common],
    }
    return {"metadata": {"labels": labels(options, "submitter")}, "spec": spec}


def _container(options: ClusterOptions, name: str, image: str) -> Manifest:
    return {
        "name": name,
        "image": image,
        "env": [
            {"name": "HF_HOME", "value": f"{SHARED}/huggingface"},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        ],
        "envFrom": [{"secretRef": {"name": options.env_secret, "optional": True}}],
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": "shared", "mountPath": SHARED},
            {"name": "compute", "mountPath": COMPUTE.rpartition("/")[0], "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _template(options: ClusterOptions, role: str, container: Manifest) -> Manifest:
    spec = {
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": _pod_security(),
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": names(options)["volume"]}},
            {"name": "compute", "configMap": {"name": names(options)["compute"]}},
            # Memory that processes share: NCCL, vLLM's workers, Ray's objects. Kubernetes gives 64 MiB.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
        ],
    }
    return {"metadata": {"labels": labels(options, role)}, "spec": spec}


def _pod_security() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        # A large shared volume is not walked through at every start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> Manifest:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
