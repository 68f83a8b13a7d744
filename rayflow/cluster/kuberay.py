"""KubeRay's kinds: the cluster, one job with a cluster of its own, and that job every night.

`authOptions.secretName` asks for KubeRay 1.6 or newer. The operator puts the token into every Ray container.
"""

from __future__ import annotations

from typing import Any

import yaml

from rayflow.cluster.options import RAY_VERSION, ClusterOptions
from rayflow.cluster.pods import Manifest, head_pod, job_line, labels, submitter_pod, worker_pod
from rayflow.cluster.sizing import Group, groups

_IDLE_SECONDS = 300
_KEEP_SECONDS = 3600
_PRE_RUNNING_SECONDS = 2 * 3600
"""Until the job runs: time for a machine to be started and for a large image to be fetched."""
_OBJECT_STORE_BYTES = 4 * 2**30  # shard numbers flow through it, never columns
_JOB_ENV = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""A job that is stopped may finish the shards in flight: Ray's own 3 seconds are too few."""


def ray_cluster(options: ClusterOptions) -> Manifest:
    """A cluster that stays: the head is always there, GPU machines come and go with the work."""
    return ray_object(options, "RayCluster", options.name, cluster_spec(options))


def ray_job(options: ClusterOptions) -> Manifest:
    """One job on a cluster that is made for it and removed after it."""
    return ray_object(options, "RayJob", f"{options.name}-job", job_spec(options, options.command))


def ray_cron_job(options: ClusterOptions, name: str | None = None, command: str = "refresh") -> Manifest:
    """Such a job every night, the refresh as a rule. Alpha: the operator's feature gate RayCronJob must be on."""
    spec = {
        "schedule": options.schedule,
        "timeZone": options.time_zone,
        "suspend": False,
        "jobTemplate": job_spec(options, command),
    }
    return ray_object(options, "RayCronJob", name or f"{options.name}-refresh", spec)


def job_spec(options: ClusterOptions, command: str, at: str | None = None) -> dict[str, Any]:
    """A RayJob's specification that runs a command; `at` as in `pods.job_line`."""
    return {
        "entrypoint": job_line(options, command, at),
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": _JOB_ENV}),
        "submissionMode": "K8sJobMode",
        # A second cluster goes on where a lost one stopped. Not for a refresh: the operator does not look at exit
        # codes, and 3 (held back by the gate) and 75 (another one is at it) are answers that it would ask for anew.
        "backoffLimit": 0 if command == "refresh" else 2,
        # A head for which there is no machine or no image would be waited for without an end.
        "preRunningDeadlineSeconds": _PRE_RUNNING_SECONDS,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEEP_SECONDS,
        "submitterPodTemplate": submitter_pod(options, {"name": "ray-job-submitter"}),
        "rayClusterSpec": cluster_spec(options),
    }


def cluster_spec(options: ClusterOptions) -> dict[str, Any]:
    """The specification that a RayCluster and a RayJob share."""
    spec: dict[str, Any] = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": options.token_secret},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": _IDLE_SECONDS,
            "resources": {
                "limits": {"cpu": "1", "memory": "1Gi"},
                "requests": {"cpu": "500m", "memory": "1Gi"},
            },
        },
    }
    if options.redis_address is not None:
        spec["gcsFaultToleranceOptions"] = _fault_tolerance(options, options.redis_address)
    head = {
        # Within the Kubernetes cluster only; no ingress. Look at it with `kubectl port-forward`.
        "serviceType": "ClusterIP",
        "enableIngress": False,
        "rayStartParams": {
            "num-cpus": str(options.head_cpus),
            "object-store-memory": str(_OBJECT_STORE_BYTES),
        },
        "template": head_pod(options),
    }
    return spec | {"headGroupSpec": head, "workerGroupSpecs": [_workers(options, g) for g in groups(options)]}


def _workers(options: ClusterOptions, group: Group) -> dict[str, Any]:
    made: dict[str, Any] = {
        "groupName": group.name,
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": group.count,
        "rayStartParams": {"object-store-memory": str(_OBJECT_STORE_BYTES)},
        "template": worker_pod(options, group),
    }
    # The autoscaler reads it as well, so it knows what a machine would offer before there is one.
    offered = {name: str(amount) for name, amount in group.resources.items()}
    return made | ({"resources": offered} if offered else {})


def _fault_tolerance(options: ClusterOptions, address: str) -> dict[str, Any]:
    password = {"name": f"{options.name}-redis", "key": "password"}
    return {"redisAddress": address, "redisPassword": {"valueFrom": {"secretKeyRef": password}}}


def ray_object(options: ClusterOptions, kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    """An object of KubeRay's."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels(options)},
        "spec": spec,
    }
