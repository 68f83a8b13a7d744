"""Kubernetes' own kinds around the cluster: storage, settings, who may reach it, and the nightly refresh."""

from __future__ import annotations

import json
from typing import Any

from rayflow.cluster.kuberay import JOB_ENV
from rayflow.cluster.options import ClusterOptions
from rayflow.cluster.pods import Manifest, job_command, labels, names, submitter_pod, token_env

_START_WITHIN_SECONDS = 6 * 3600


def volume_claim(options: ClusterOptions) -> Manifest:
    """The storage that every machine sees: runs, checkpoints, model weights."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": options.storage}},
    }
    if options.storage_class is not None:
        spec["storageClassName"] = options.storage_class
    return _object(options, "v1", "PersistentVolumeClaim", names(options)["volume"]) | {"spec": spec}


def config_map(options: ClusterOptions, compute: str) -> Manifest:
    """The rendered settings of a run, as the pods read them."""
    made = _object(options, "v1", "ConfigMap", names(options)["compute"])
    return made | {"data": {"compute.yaml": compute}}


def network_policy(options: ClusterOptions) -> Manifest:
    """Only the cluster's own pods and the KubeRay operator reach its ports; the way out stays open."""
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
    }
    spec = {
        "podSelector": {"matchLabels": labels(options)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": labels(options)}}]},
            {"from": [operator], "ports": [{"protocol": "TCP", "port": 8265}]},
        ],
    }
    return _object(options, "networking.k8s.io/v1", "NetworkPolicy", options.name) | {"spec": spec}


def cron_job(options: ClusterOptions) -> Manifest:
    """The nightly refresh: a small pod that submits it to the standing cluster and waits for its end.

    A night never overlaps the one before it, and a night that could not start within six hours is left out.
    """
    container = {
        "name": "submit",
        "command": [
            *("ray", "job", "submit", "--address", f"http://{options.name}-head-svc:8265"),
            *("--runtime-env-json", json.dumps({"env_vars": JOB_ENV}), "--"),
            *job_command(options, "refresh"),
        ],
        "env": token_env(options),
    }
    job = {
        # Once more, for a pod that was lost. The refresh holds a lock of its own, and goes on where it stopped.
        "backoffLimit": 1,
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        "template": submitter_pod(options, container),
    }
    spec = {
        "schedule": options.schedule,
        "timeZone": options.time_zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": _START_WITHIN_SECONDS,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "suspend": False,
        "jobTemplate": {"metadata": {"labels": labels(options)}, "spec": job},
    }
    return _object(options, "batch/v1", "CronJob", f"{options.name}-refresh") | {"spec": spec}


def _object(options: ClusterOptions, version: str, kind: str, name: str) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels(options)}}
