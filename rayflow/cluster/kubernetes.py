"""Kubernetes' own kinds around the cluster: storage, settings, and who may reach it."""

from __future__ import annotations

from typing import Any

from rayflow.cluster.options import ClusterOptions
from rayflow.cluster.pods import Manifest, labels, names

_METRICS_PORTS = (8080, 44217, 44227)
"""Where KubeRay's containers show metrics: of every node, of the autoscaler, of the dashboard."""


def volume_claim(options: ClusterOptions) -> Manifest:
    """The storage that every machine sees: runs, checkpoints, model weights."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": options.storage}},
    }
    if options.storage_class is not None:
        spec["storageClassName"] = options.storage_class
    return kube_object(options, "v1", "PersistentVolumeClaim", names(options)["volume"]) | {"spec": spec}


def config_map(options: ClusterOptions, compute: str) -> Manifest:
    """The rendered settings of a run, as the pods read them."""
    made = kube_object(options, "v1", "ConfigMap", names(options)["compute"])
    return made | {"data": {"compute.yaml": compute}}


def network_policy(options: ClusterOptions) -> Manifest:
    """Only the cluster's own pods and the KubeRay operator reach its ports, and Prometheus those with metrics where
    its namespace is named; the way out stays open.
    """
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
    }
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": labels(options)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": labels(options)}}]},
            {"from": [operator], "ports": [{"protocol": "TCP", "port": 8265}]},
        ],
    }
    if options.metrics_namespace is not None:
        match = {"matchLabels": {"kubernetes.io/metadata.name": options.metrics_namespace}}
        ports = [{"protocol": "TCP", "port": port} for port in _METRICS_PORTS]
        spec["ingress"].append({"from": [{"namespaceSelector": match}], "ports": ports})
    return kube_object(options, "networking.k8s.io/v1", "NetworkPolicy", options.name) | {"spec": spec}


def kube_object(options: ClusterOptions, version: str, kind: str, name: str) -> Manifest:
    """An object with its name and labels, and nothing in it yet."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels(options)}}
