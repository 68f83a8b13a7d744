"""The nightly refresh without KubeRay's alpha kind: a CronJob whose pod creates a RayJob and waits for its end."""

from __future__ import annotations

from typing import Any

import yaml

from rayflow.cluster.kuberay import job_spec, ray_object
from rayflow.cluster.kubernetes import kube_object
from rayflow.cluster.options import ClusterOptions
from rayflow.cluster.pods import Manifest, labels, submitter_pod

_START_WITHIN_SECONDS = 6 * 3600
_RUN_FAILED = 3
"""Exit code of the pod where the RayJob ended badly: no second pod would change that."""
_OLDEST_MINUTES = 31 * 24 * 60
"""A name that ends in an older time was not given by a CronJob."""
_FOLDER = "/etc/rayflow-job"
_NAME, _UID, _SECONDS = "NAME-OF-THE-NIGHT", "UID-OF-THE-NIGHT", "SECONDS-OF-THE-NIGHT"
"""Stand for what is known when the RayJob is made: its name and its owner, which are those of the Kubernetes Job, so
that a pod that replaces a lost one finds it; and the time that it was planned for, which decides its day."""
_SCRIPT = f"""\
set -eu
# A CronJob names its Jobs by their planned times, in minutes since 1970; a Job made by hand is for now.
now=$(($(date +%s) / 60))
planned="${{JOB_NAME##*-}}"
case "$planned" in "" | 0* | *[!0-9]* | ?????????*) planned=0 ;; esac
if [ "$planned" -gt "$now" ] || [ "$planned" -lt $((now - {_OLDEST_MINUTES})) ]; then planned="$now"; fi
kubectl get rayjob "$JOB_NAME" > /dev/null 2>&1 ||
  sed -e "s/{_NAME}/$JOB_NAME/" -e "s/{_UID}/$JOB_UID/" -e "s/{_SECONDS}/$((planned * 60))/" \
    {_FOLDER}/rayjob.yaml | kubectl create -f -
while true; do
  state="$(kubectl get rayjob "$JOB_NAME" -o 'jsonpath={{.status.jobDeploymentStatus}} {{.status.jobStatus}}')"
  case "$state" in
    "Complete SUCCEEDED") echo "RayJob $JOB_NAME succeeded."; exit 0 ;;
    Complete* | Failed* | ValidationFailed*)
      echo "RayJob $JOB_NAME ended as: $state"
      kubectl get rayjob "$JOB_NAME" -o 'jsonpath={{.status.reason}} {{.status.message}}'
      exit {_RUN_FAILED} ;;
  esac
  sleep "${{POLL_SECONDS:-15}}"
done
"""


def cron_job(options: ClusterOptions, name: str | None = None, command: str = "refresh") -> list[Manifest]:
    """What it takes, in the order of creation: the RayJob in a ConfigMap, the right to create it, the CronJob.

    A night never overlaps the one before it, and a night that could not start within six hours is left out. Its
    RayJob belongs to its Kubernetes Job, and goes with it.

    Args:
        options: of the cluster that each night gets for itself.
        name: of all the objects; the cluster's with "-refresh" if None.
        command: what is run every night.
    """
    name = name or f"{options.name}-refresh"
    job = ray_object(options, "RayJob", _NAME, job_spec(options, command, at=_SECONDS))
    job["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "Job", "name": _NAME, "uid": _UID, "blockOwnerDeletion": False}
    ]
    text = yaml.safe_dump(job, sort_keys=False, width=110)
    made = [
        kube_object(options, "v1", "ConfigMap", name) | {"data": {"rayjob.yaml": text}},
        kube_object(options, "v1", "ServiceAccount", name) | {"automountServiceAccountToken": False},
        kube_object(options, "rbac.authorization.k8s.io/v1", "Role", name)
        | {"rules": [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]},
        kube_object(options, "rbac.authorization.k8s.io/v1", "RoleBinding", name)
        | {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]
    return [*made, kube_object(options, "batch/v1", "CronJob", name) | {"spec": _cron_spec(options, name)}]


def _cron_spec(options: ClusterOptions, name: str) -> dict[str, Any]:
    stops = {"containerName": "create", "operator": "In", "values": [_RUN_FAILED]}
    job = {
        # For a pod that was lost, or an API server that did not answer: the next one goes on waiting.
        "backoffLimit": 6,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": stops}]},
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        "template": _pod(options, name),
    }
    return {
        "schedule": options.schedule,
        "timeZone": options.time_zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": _START_WITHIN_SECONDS,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "suspend": False,
        "jobTemplate": {"metadata": {"labels": labels(options)}, "spec": job},
    }


def _pod(options: ClusterOptions, name: str) -> Manifest:
    """The pod that creates the RayJob and waits; it is no part of any cluster."""

    def label(name: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": f"metadata.labels['batch.kubernetes.io/{name}']"}}

    container = {
        "name": "create",
        "command": ["/bin/sh", "-c", _SCRIPT],
        "env": [
            {"name": "JOB_NAME", "valueFrom": label("job-name")},
            {"name": "JOB_UID", "valueFrom": label("controller-uid")},
            {"name": "HOME", "value": "/tmp"},  # where kubectl keeps what it has asked
        ],
        "volumeMounts": [{"name": "job", "mountPath": _FOLDER, "readOnly": True}],
    }
    pod = submitter_pod(options, container)
    pod["spec"] |= {"serviceAccountName": name, "automountServiceAccountToken": True}
    pod["spec"]["volumes"] = [{"name": "job", "configMap": {"name": name}}]
    pod["spec"]["containers"][0]["image"] = options.kubectl_image
    return pod
