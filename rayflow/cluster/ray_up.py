"""The cluster for `ray up`: machines of AWS, one node type for each group, without Kubernetes."""

from __future__ import annotations

from typing import Any

from rayflow.cluster.gpus import find_gpu
from rayflow.cluster.options import SHARED, ClusterOptions
from rayflow.cluster.pods import Manifest
from rayflow.cluster.sizing import Group, groups
from rayflow.errors import ConfigError

DEFAULT_GPU = "H100"
_HOME = "/home/rayflow"
_HEAD_INSTANCES = {8: "m7i.4xlarge", 16: "m7i.8xlarge", 32: "m7i.16xlarge"}
"""By the CPUs for tasks, which are half of the machine's."""
_DISK_GB = 500


def ray_up(options: ClusterOptions) -> Manifest:
    """The cluster's configuration; its containers run the image, the token file is copied from this machine.

    Raises:
        ConfigError: no instance type is large enough for a group.
    """
    types = {"head": _node_type(options, _head_instance(options), {"CPU": options.head_cpus}, 0)}
    for group in groups(options):
        instance, resources = _instance(options, group)
        types[group.name] = _node_type(options, instance, resources, group.count)
    start = "ulimit -n 65536; ray start"
    return {
        "cluster_name": options.name,
        "max_workers": sum(group.count for group in groups(options)),
        "idle_timeout_minutes": 5,
        "provider": {"type": "aws", "region": options.region, "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": options.image,
            **({} if options.head_image is None else {"head_image": options.head_image}),
            "container_name": "rayflow",
            "run_options": [
                "--shm-size=16g",
                f"--volume {SHARED}:{SHARED}",
                "--env NVIDIA_VISIBLE_DEVICES=all",
                "--env RAY_AUTH_MODE=token",
                "--env RAY_USAGE_STATS_ENABLED=0",
                f"--env HF_HOME={SHARED}/huggingface",
            ],
        },
        "file_mounts": {f"{_HOME}/.ray/auth_token": "~/.ray/auth_token"},
        "initialization_commands": _mount(options),
        "head_node_type": "head",
        "available_node_types": types,
        "head_start_ray_commands": [
            "ray stop",
            # On the head itself only; `ray dashboard` and `ray job submit` reach it through SSH.
            f"{start} --head --port=6379 --dashboard-host=127.0.0.1 --num-cpus={options.head_cpus} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"{start} --address=$RAY_HEAD_IP:6379"],
    }


def _mount(options: ClusterOptions) -> list[str]:
    return [
        "sudo apt-get install --yes nfs-common",
        f"sudo mkdir -p {SHARED}",
        f"mountpoint -q {SHARED} || sudo mount -t nfs4 -o nfsvers=4.1,hard {options.nfs} {SHARED}",
    ]


def _head_instance(options: ClusterOptions) -> str:
    for cpus, instance in _HEAD_INSTANCES.items():
        if cpus >= options.head_cpus:
            return instance
    raise ConfigError(f"head_cpus={options.head_cpus} is more than a head on AWS offers here ({cpus}).")


def _instance(options: ClusterOptions, group: Group) -> tuple[str, dict[str, int]]:
    """The smallest instance type that holds a machine of the group, and what it offers to Ray."""
    kind = options.gpu_type or DEFAULT_GPU
    for gpus, (instance, cpus) in sorted(find_gpu(kind).instances.items()):
        if gpus >= group.gpus and cpus >= group.cpus:
            return instance, {"CPU": cpus, "GPU": gpus} | dict.fromkeys(group.resources, gpus)
    raise ConfigError(
        f"No machine of AWS with {kind} holds {group.gpus} GPUs and {group.cpus} CPUs (group '{group.name}'). "
        "Lower gpus_per_node or cpus_per_gpu, or choose another gpu_type."
    )


def _node_type(
    options: ClusterOptions, instance: str, resources: dict[str, int], most: int
) -> dict[str, Any]:
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": _DISK_GB, "VolumeType": "gp3"}}
    return {
        "min_workers": 0,
        "max_workers": most,
        "resources": resources,
        "node_config": {"InstanceType": instance, "ImageId": options.ami, "BlockDeviceMappings": [disk]},
    }
