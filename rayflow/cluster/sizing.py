"""From numbers of GPUs to groups of machines, and to the `compute` block whose pools fit on them.

Each group of machines offers a custom resource of its name, as many as its GPUs, and a worker takes as many as
it takes GPUs: so a pool runs in its group and nowhere else, shares of a GPU included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayflow.cluster.options import SHARED, ClusterOptions
from rayflow.errors import ConfigError

SHARD_SIZE = 64
IN_FLIGHT = 4


@dataclass(frozen=True)
class Group:
    """Machines that are alike.

    Attributes:
        name: of the group, and of the custom resource that its machines offer; a shared group offers none.
        count: how many, at most.
        gpus, cpus, memory: of each machine; memory in GiB.
    """

    name: str
    count: int
    gpus: int
    cpus: int
    memory: int
    pinned: bool = True

    @property
    def resources(self) -> dict[str, int]:
        """The custom resources of each machine."""
        return {self.name: self.gpus} if self.pinned else {}


def groups(options: ClusterOptions) -> tuple[Group, ...]:
    """The GPU machines: one shared group, or those of samplers, rewards and trainers.

    Raises:
        ConfigError: the GPUs cannot be split over machines that are alike, or an engine does not fit on one.
    """
    if options.gpus is not None:
        found = (_group(options, "gpu", options.gpus, pinned=False),)
    else:
        wanted = {
            "sampler": options.gpus_sampling,
            "reward": options.gpus_reward,
            "trainer": options.gpus_train,
        }
        found = tuple(_group(options, name, gpus) for name, gpus in wanted.items() if gpus)
    if found[0].gpus % options.tensor_parallel:
        raise ConfigError(
            f"An engine over {options.tensor_parallel} GPUs (tensor_parallel) must lie on one machine, and the "
            f"samplers' machines have {found[0].gpus}: their number must be a multiple."
        )
    return found


def _group(options: ClusterOptions, name: str, gpus: int, pinned: bool = True) -> Group:
    """The fewest machines with these GPUs, as many on each."""
    count = -(-gpus // options.gpus_per_node)
    each = gpus // count
    if each * count != gpus:
        lower, upper = each * count, (each + 1) * count
        raise ConfigError(
            f"{gpus} GPUs of group '{name}' cannot be split over {count} machines alike with at most "
            f"{options.gpus_per_node} each. Take {lower} or {upper}, or change gpus_per_node."
        )
    return Group(name, count, each, each * options.cpus_per_gpu, each * options.memory_per_gpu, pinned)


def compute_settings(options: ClusterOptions) -> dict[str, Any]:
    """The settings of a run on this cluster: `compute`, where runs are stored, and the engine's share of a GPU.

    Raises:
        ConfigError: see `groups`; or one GPU, or an engine over several, cannot be shared as asked.
    """
    machines = groups(options)
    engine, pools = _shared(options) if options.gpus is not None else _split(options)
    if options.tensor_parallel > 1:
        engine["tensor_parallel_size"] = options.tensor_parallel
    nodes: list[dict[str, Any]] = [{"name": "head", "count": 1, "num_cpus": options.head_cpus}]
    for group in machines:
        node = {"name": group.name, "count": group.count, "num_cpus": group.cpus, "num_gpus": group.gpus}
        nodes.append(node | ({"resources": group.resources} if group.resources else {}))
    return {
        "runs_dir": f"{SHARED}/runs",
        # A reward model's training does not sample, and knows no such block.
        **({"sample": {"engine": engine}} if engine and _has_vllm(options) else {}),
        "compute": {"runner": "ray", "address": "auto", "shard_size": SHARD_SIZE, **pools, "nodes": nodes},
    }


def _has_vllm(options: ClusterOptions) -> bool:
    return options.command != "train-reward" and options.engine == "vllm"


def _split(options: ClusterOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Engine settings and pools where every kind of work has machines of its own."""
    spread = options.tensor_parallel
    sampling, train = options.gpus_sampling or 0, options.gpus_train or 0
    trainers = _pool(options, train, 1, "trainer")
    return {}, {
        "sample": _pool(options, sampling // spread, spread, "sampler") | {"in_flight": IN_FLIGHT},
        **_reward_pools(options, options.gpus_reward, "reward"),
        "reference": trainers,
        "train": trainers,
    }


def _shared(options: ClusterOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same where the stages take turns: sampling and scoring are one stream, and divide the GPUs."""
    total, spread = options.gpus or 0, options.tensor_parallel
    everything = _pool(options, total, 1)
    after = {"reference": everything, "train": everything}
    if options.reward == "none":
        sample = _pool(options, total // spread, spread) | {"in_flight": IN_FLIGHT}
        return {}, {"sample": sample, **_reward_pools(options, 0), **after}
    if spread > 1:
        raise ConfigError(
            "An engine over several GPUs beside reward models needs machines of its own: give gpus_sampling, "
            "gpus_reward and gpus_train instead of gpus."
        )
    if total == 1:
        share = 0.25 if options.reward == "pairwise" else 0.5
        sample = _pool(options, 1, 0.5) | {"in_flight": IN_FLIGHT}
        rewards = {name: _pool(options, 1, share) for name in ("score", "label")}
        return {"gpu_memory_utilization": 0.5}, {"sample": sample, **rewards, **after}
    # A pairwise reward reads every candidate beside another one, and costs about twice a pointwise one.
    scorers = max(1, total // (4 if options.reward == "pairwise" else 8))
    sample = _pool(options, total - scorers, 1) | {"in_flight": IN_FLIGHT}
    return {}, {"sample": sample, **_reward_pools(options, scorers), **after}


def _reward_pools(options: ClusterOptions, gpus: int, group: str | None = None) -> dict[str, Any]:
    """The pools of a reward; a pairwise one is held twice, to score and, far less work, to label."""
    if not gpus:
        return {"score": {"num_workers": 4, "num_cpus": 1.0}, "label": {"num_workers": 1, "num_cpus": 1.0}}
    if options.reward != "pairwise":
        # A label pool is used by pairwise rewards only. With one after all, the placement says that it is too much.
        return {"score": _pool(options, gpus, 1, group), "label": _pool(options, 1, 1, group)}
    if gpus == 1:
        return {name: _pool(options, 1, 0.5, group) for name in ("score", "label")}
    labels = max(1, gpus // 8)
    return {
        "score": _pool(options, gpus - labels, 1, group),
        # Half of a GPU each: a selection that asks the ranker holds the label pool once more.
        "label": _pool(options, labels, 0.5, group),
    }


def _pool(options: ClusterOptions, workers: int, gpus: float, group: str | None = None) -> dict[str, Any]:
    """A pool; half of a machine's CPUs stay free for tasks and for Ray itself."""
    pool: dict[str, Any] = {
        "num_workers": workers,
        "num_cpus": gpus * options.cpus_per_gpu / 2,
        "num_gpus": gpus,
    }
    return pool | ({"resources": {group: gpus}} if group else {})
