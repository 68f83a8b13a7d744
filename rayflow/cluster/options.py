"""What a cluster is made from: how many GPUs for what, and the names of things around it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rayflow.core.options import Options
from rayflow.errors import ConfigError

RAY_VERSION = "2.60.0"
"""What the images hold (cluster/constraints.txt) and the manifests say."""
WORKDIR = "/opt/rayflow"
"""The project's folder in the images."""
SHARED = "/shared"
"""Where every machine mounts the shared storage."""


class ClusterOptions(Options):
    """One cluster.

    Attributes:
        gpus: GPUs that all stages share, one after the other; or, for a group of machines for each:
        gpus_sampling, gpus_reward, gpus_train: GPUs of the samplers, the rewards and the trainers. The
            reference pass runs on the trainers' machines. Without reward GPUs, rewards run on CPUs.
        gpus_per_node: the most GPUs of one machine.
        gpu_type: see `rayflow.cluster.gpus.GPUS`; None takes any GPU.
        tensor_parallel: GPUs that one sampling engine is spread over.
        engine: what samples; settings of an engine's share of a GPU are vLLM's.
        reward: what scores: a "model" that scores single responses, a "pairwise" one, whose model is held a
            second time for labels, or "none", a rule or a server, which needs no GPU here.
        cpus_per_gpu, memory_per_gpu: of the GPU machines; memory in GiB.
        head_cpus, head_memory: of the head, which also runs the light tasks; memory in GiB.
        name: of the cluster, and the beginning of every object's name.
        image, head_image: with rayflow installed (cluster/Dockerfile.gpu); None: the head's is the same.
        kubectl_image: with a shell and kubectl, for the pod that starts the nightly refresh.
        config: the job's configuration, a path in the image or on the shared storage.
        model: of the jobs, a hub id or a folder on the shared storage; None: the configurations' own.
        command: what is done with it.
        refresh_config: the nightly refresh's configuration.
        schedule, time_zone: of the nightly refresh, as cron writes it; the zone says which day it is for, too.
        storage, storage_class: size and class of the shared volume; None is the cluster's default class.
        redis_address: of a Redis for GCS fault tolerance; None goes without.
        token_secret: the Secret with the authentication token, under the key `auth_token`.
        env_secret: a Secret whose keys become environment variables (HF_TOKEN, REWARD_TOKEN); may be missing.
        metrics_namespace: where a Prometheus runs that may read the metrics' ports; None: only the cluster's own pods.
        node_selector: labels that GPU machines must have, besides those that follow from `gpu_type`.
        region, ami, nfs: for `ray up` on AWS: where, the machines' image (with NVIDIA's driver and Docker), and
            what is mounted as the shared storage.
    """

    gpus: int | None = Field(default=None, gt=0)
    gpus_sampling: int | None = Field(default=None, gt=0)
    gpus_reward: int = Field(default=0, ge=0)
    gpus_train: int | None = Field(default=None, gt=0)
    gpus_per_node: int = Field(default=8, gt=0)
    gpu_type: str | None = None
    tensor_parallel: int = Field(default=1, gt=0)
    engine: str = "vllm"
    reward: Literal["model", "pairwise", "none"] = "model"
    cpus_per_gpu: int = Field(default=8, gt=1)
    memory_per_gpu: int = Field(default=64, gt=0)
    head_cpus: int = Field(default=8, gt=0)
    head_memory: int = Field(default=32, gt=0)
    # A night's RayJob is called `<name>-refresh-<8 digits>`, and the operator refuses more than 47 characters.
    name: str = Field(default="rayflow", pattern=r"^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$")
    image: str = "registry.example.com/rayflow:0.1.0-gpu"
    head_image: str | None = None
    kubectl_image: str = "alpine/k8s:1.34.1"
    config: str = "jobs/configs/quickstart.yaml"
    model: str | None = None
    command: Literal["run", "refresh", "evaluate", "train-reward"] = "run"
    refresh_config: str = "jobs/configs/refresh.yaml"
    schedule: str = "0 2 * * *"
    # It becomes part of a shell's line.
    time_zone: str = Field(default="Etc/UTC", pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")
    storage: str = "500Gi"
    storage_class: str | None = None
    redis_address: str | None = None
    token_secret: str = "rayflow-auth"
    env_secret: str = "rayflow-env"
    metrics_namespace: str | None = None
    node_selector: dict[str, str] = {}
    region: str = "us-west-2"
    ami: str = "ami-00000000000000000"
    nfs: str = "fs-00000000.efs.us-west-2.amazonaws.com:/"

    @model_validator(mode="after")
    def _times(self) -> ClusterOptions:
        """Refuse what Kubernetes, or the pod that asks for the day, would refuse every night."""
        from rayflow.schedule.exports.fields import portable
        from rayflow.schedule.times import Times

        try:
            cron = portable(Times(self.schedule, self.time_zone).cron)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if cron != self.schedule:
            raise ValueError(f"schedule '{self.schedule}' is not read alike everywhere: write '{cron}'")
        return self

    @model_validator(mode="after")
    def _one_sizing(self) -> ClusterOptions:
        split = self.gpus_sampling is not None and self.gpus_train is not None
        some = self.gpus_sampling is not None or self.gpus_train is not None or self.gpus_reward > 0
        if self.gpus is not None and some:
            raise ValueError(
                "gpus are shared by all stages; gpus_sampling, gpus_reward and gpus_train are not: "
                "give one or the other"
            )
        if self.gpus is None and not split:
            raise ValueError("say how many GPUs: gpus, or gpus_sampling and gpus_train (and gpus_reward)")
        return self
