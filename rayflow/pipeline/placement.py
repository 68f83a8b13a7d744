"""Where the workers of a plan would run, known before any machine is started.

Each step of a plan is placed by itself, since its workers are gone when the next one begins; the stages of a
stream run side by side and share the machines. Counted as Ray counts: a share of a GPU lies on one device, and
a worker is on one machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from rayflow.config import NodeOptions, PoolOptions
from rayflow.core.devices import num_gpus
from rayflow.errors import ConfigError
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stage import Stage

_UNIT = 10_000  # Ray counts resources in ten-thousandths


class _Machine:
    """One machine, and what of it is still free."""

    def __init__(self, node: NodeOptions) -> None:
        self.name = node.name
        self.free = {name: _units(amount) for name, amount in _amounts(node).items()}
        self.devices = [_UNIT] * node.num_gpus

    def take(self, pool: PoolOptions) -> bool:
        """Give a worker of `pool` what it asks for, or leave everything as it is."""
        asked = {name: _units(amount) for name, amount in _amounts(pool).items()}
        devices = self._devices(_units(pool.num_gpus))
        if devices is None or any(amount > self.free.get(name, 0) for name, amount in asked.items()):
            return False
        for name, amount in asked.items():
            self.free[name] = self.free.get(name, 0) - amount
        for device in devices:
            self.devices[device] -= min(_UNIT, _units(pool.num_gpus))
        return True

    def _devices(self, asked: int) -> list[int] | None:
        """Which GPUs hold this amount: whole ones, or the fullest one with room for a share. None: none do."""
        if asked % _UNIT and asked > _UNIT:
            return None  # Ray gives more than one GPU as whole ones only
        need = max(1, asked // _UNIT) if asked else 0
        order = sorted(range(len(self.devices)), key=lambda device: self.devices[device])
        found = [device for device in order if self.devices[device] >= min(asked, _UNIT)][:need]
        return found if len(found) == need else None


def place(plan: Plan) -> dict[str, Counter[str]]:
    """How many workers of each stage run on which group of `compute.nodes`; empty if there are none.

    Raises:
        ConfigError: a stage finds no room.
    """
    nodes = plan.config.compute.nodes
    placed: dict[str, Counter[str]] = {}
    if nodes:
        for step in plan.steps:
            placed |= _place_step(step, nodes)
    return placed


def check_groups(stages: Iterable[Stage], nodes: Sequence[NodeOptions], instead: str) -> None:
    """Refuse a stage whose group of workers these machines never hold as a whole: training would wait for the rest.

    Args:
        stages: each by itself; a pool that grows counts with its fewest workers.
        nodes: the machines there are.
        instead: what to do but to ask for less.

    Raises:
        ConfigError: a stage finds no room.
    """
    for stage in stages:
        _place_step((stage,), nodes, instead, fewest=True)


def check_this_machine(plan: Plan, only: Collection[str] | None = None, redo: Collection[str] = ()) -> None:
    """Refuse what the Ray that a run starts on this machine could not hold; told without starting it.

    Nothing is known, and nothing refused, where a run joins a cluster, or names the machines of one.

    Args:
        plan: all of it.
        only: stages to look at; all if None. Of those that are stored no worker is made.
        redo: stages that are computed again although they are stored.

    Raises:
        ConfigError: a stage finds no room.
    """
    compute = plan.config.compute
    if compute.runner != "ray" or compute.address or compute.nodes or os.environ.get("RAY_ADDRESS"):
        return
    stages = [
        stage
        for name, stage in plan.stages.items()
        if (only is None or name in only) and (name in redo or not plan.artifacts[name].committed)
    ]
    pools = [stage.pool for stage in stages if hasattr(stage, "pool")]
    have = {"CPU": float(os.cpu_count() or 1)}
    if any(pool.num_gpus for pool in pools):  # torch takes a while to import
        have["GPU"] = num_gpus()
    check_groups(stages, (machine("this machine", have, pools),), OTHER_MACHINES)


OTHER_MACHINES = "set compute.address to a cluster"
"""What helps where the machine is too small."""


def machine(name: str, have: Mapping[str, float], pools: Iterable[PoolOptions]) -> NodeOptions:
    """One machine as Ray counts it, with those resources of its own that any of these pools asks for."""
    asked = {key for pool in pools for key in pool.resources}
    return NodeOptions(
        name=name,
        num_cpus=have.get("CPU", 0),
        num_gpus=int(have.get("GPU", 0)),
        resources={key: have[key] for key in sorted(asked) if have.get(key)},
    )


def _place_step(
    step: Sequence[Stage],
    nodes: Sequence[NodeOptions],
    instead: str = "change compute.nodes",
    fewest: bool = False,
) -> dict[str, Counter[str]]:
    machines = [_Machine(node) for node in nodes for _ in range(node.count)]
    pools = {stage.name: stage.pool for stage in step if hasattr(stage, "pool")}
    tasks = {stage.name for stage in step if not getattr(stage, "actor", True)}
    found: dict[str, Counter[str]] = {}
    # The largest first, each onto the machine that has the least left for others.
    for name, pool in sorted(pools.items(), key=lambda item: _size(item[1]), reverse=True):
        found[name] = Counter()
        workers = pool.fewest_workers if fewest else pool.most_workers
        count = 1 if name in tasks else workers  # tasks come and go: one at a time is enough
        for _ in range(count):
            order = sorted(machines, key=lambda m: (sum(m.devices), len(m.devices), sum(m.free.values())))
            chosen = next((machine for machine in order if machine.take(pool)), None)
            if chosen is None:
                others = [other for other in pools if other != name]
                raise ConfigError(
                    f"{_no_room(name, count, pool, found[name].total(), others, nodes)}, or {instead}."
                )
            found[name][chosen.name] += 1
    return found


def _no_room(
    name: str, count: int, pool: PoolOptions, fit: int, others: list[str], nodes: Sequence[NodeOptions]
) -> str:
    """The sentence for a stage that cannot be placed, all but its end: what else could be done."""
    each = describe(pool)
    machines = "; ".join(f"{node.name}: {node.count} of {describe(node)}" for node in nodes)
    if not any(_Machine(node).take(pool) for node in nodes):
        return (
            f"Stage '{name}' cannot be placed: a worker asks for {each}, and no machine is that large "
            f"({machines}). Ask for less in the compute block"
        )
    beside = f" beside {', '.join(others)}" if others else ""
    workers = "1 worker" if count == 1 else f"{count} workers"
    return (
        f"Stage '{name}' cannot be placed: {workers} of {each}{beside}, and the machines have room for "
        f"{fit} ({machines}). Lower num_workers in the compute block"
    )


def describe(what: PoolOptions | NodeOptions) -> str:
    """A worker, or a machine, in words: "4 CPU, 1 GPU, 1 sampler"."""
    amounts = {"CPU": what.num_cpus, "GPU": what.num_gpus, **what.resources}
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items())


def _amounts(what: PoolOptions | NodeOptions) -> dict[str, float]:
    """Everything but GPUs, which are counted device by device."""
    return {"CPU": what.num_cpus, **what.resources}


def _units(amount: float) -> int:
    return round(amount * _UNIT)


def _size(pool: PoolOptions) -> tuple[float, float, float]:
    return pool.num_gpus, sum(pool.resources.values()), pool.num_cpus
