"""What a Prometheus server can ask a running job, through the metrics endpoint of every Ray node.

Counters are recorded where the work is done, once a shard, so they cost microseconds; a rate is theirs to derive:
`sum by (stage) (rate(ray_rayflow_rows_total[1m]))`, and in the same way tokens, scores and failures. The acceptance
rate is `accepted / visited`. How long the queue before each stage is, and how training goes, the driver says.
"""

from __future__ import annotations

import contextlib
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from rayflow.core.beats import every
from rayflow.core.rows import Accepted, Scores
from rayflow.pipeline.folders import run_name
from rayflow.pipeline.stage import ShardWorker, Work
from rayflow.training.metrics import Metrics

_TAGS = ("run", "stage")
_SECONDS = [0.1, 1, 5, 15, 60, 300, 1800]
_QUEUE_S = 5.0
COUNTERS = {
    "rows": "Rows that a stage has finished.",
    "failures": "Rows that a stage could not finish.",
    "tokens": "Tokens that a stage has generated or processed.",
    "scores": "Responses that a reward has scored.",
    "visited": "Candidates that rejection sampling has looked at.",
    "accepted": "Candidates that selection has accepted.",
}


@cache
def _counter(name: str) -> Counter:
    """One of this process; Ray adds the processes of a node up. Its exporter appends `_total`."""
    return Counter(f"rayflow_{name}", COUNTERS[name], _TAGS)


@cache
def _seconds() -> Histogram:
    return Histogram("rayflow_shard_seconds", "Time that a worker spent on a shard.", _SECONDS, _TAGS)


@cache
def _gauge(name: str, description: str) -> Gauge:
    return Gauge(f"rayflow_{name}", description, _TAGS)


def record(worker: ShardWorker, work: Work | None) -> None:
    """Count a shard that this process has just committed; None was somebody else's."""
    if work is None:
        return
    tags = tags_of(worker)
    for name, value in counts(work).items():
        if value > 0:
            _counter(name).inc(value, tags)
    _seconds().observe(work.seconds, tags)


def counts(work: Work) -> dict[str, float]:
    """What a shard adds to each counter."""
    found: Tally[str] = Tally(rows=len(work.rows), failures=len(work.failures), tokens=work.tokens)
    for row in work.rows:
        if isinstance(row, Scores):
            found["scores"] += len(row.rewards)
        elif isinstance(row, Accepted) and row.acceptance_rate > 0:
            found["accepted"] += len(row.accepted)
            found["visited"] += round(len(row.accepted) / row.acceptance_rate)
    return dict(found)


def tags_of(worker: ShardWorker) -> dict[str, str]:
    """The labels of a stage's numbers."""
    return {"run": run_name(worker.target.folder.parent), "stage": worker.stage.name}


@contextlib.contextmanager
def watched_queues(workers: Sequence[ShardWorker]) -> Iterator[None]:
    """Publish, while the block runs, how many shards wait for each stage of a stream or are in it."""
    gauge = _gauge("queue_shards", "Shards that the stage before has finished and this one has not.")

    def publish() -> None:
        before = workers[0].target.num_shards
        for worker in workers:
            done = len(worker.target.shards.committed())
            gauge.set(max(0, before - done), tags_of(worker))
            before = done

    publish()
    # Listing very many shards may take a while.
    with every(_QUEUE_S, publish, "queues", rest=20, at_end=True, forgive=(OSError,)):
        yield


_TRAINING = {
    "step": "Optimizer steps done.",
    "loss": "Loss of the last step.",
    "tokens_per_second": "Response tokens per second of the last step.",
    "rewards/accuracies": "Share of the last step's pairs with the chosen response ahead.",
}


def record_step(run: str, metrics: Metrics) -> None:
    """Publish the last optimizer step; called on the driver."""
    tags: dict[str, Any] = {"run": run, "stage": "train"}
    for name, description in _TRAINING.items():
        value = metrics.get(name)
        if value is not None:
            _gauge(f"train_{name.replace('/', '_')}", description).set(value, tags)
