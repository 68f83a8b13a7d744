"""A cluster of a head and two groups of machines, each with its custom resource: where do the pools run?

A program of its own, since a process has one Ray: `python -m tests.dist.two_groups FOLDER` prints, as JSON, the
node of each group and the nodes that each stage's workers ran on.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from rayflow.config import RunConfig
from rayflow.core.options import KindOptions
from rayflow.engines.fake import FakeEngine

SEEN = "RAYFLOW_TEST_SEEN"


def note(stage: str) -> None:
    """Leave a mark of the node that this worker is on."""
    import ray

    place = Path(os.environ[SEEN], f"{stage}.{ray.get_runtime_context().get_node_id()}")
    place.touch()


class NotingEngine(FakeEngine):
    """The fake engine, noting where it is set up."""

    class Config(FakeEngine.Config, KindOptions):
        kind: str = "tests.dist.two_groups:NotingEngine"

    def setup(self, model: str) -> None:
        note("sample")
        super().setup(model)


def reward(prompt: str, response: str) -> float:
    """A rule that notes where it is asked."""
    note("score")
    return float(len(response))


def main(folder: Path) -> None:
    os.environ[SEEN] = str(folder / "seen")
    (folder / "seen").mkdir()
    import ray
    from ray.cluster_utils import Cluster

    from rayflow.dist.runner import RayRunner
    from tests.pipeline.helpers import run_data

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = {
        name: cluster.add_node(num_cpus=2, resources={name: 2}).node_id for name in ("sampler", "reward")
    }
    cluster.wait_for_nodes()
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Number {i}."}) + "\n" for i in range(8)))
    pools = {
        "sample": {"num_workers": 2, "num_cpus": 0.5, "resources": {"sampler": 1}},
        # Two workers to a whole one, as shares of a GPU are.
        "score": {"num_workers": 2, "num_cpus": 0.5, "resources": {"reward": 0.5}},
    }
    config = RunConfig.model_validate(
        {
            "name": "pinned",
            "runs_dir": str(folder / "runs"),
            "model": "fake",
            "prompts": {"train": {"path": str(prompts)}},
            "sample": {
                "engine": "tests.dist.two_groups:NotingEngine",
                "num_candidates": 8,
                "max_tokens": 8,
            },
            "reward": {"kind": "rule", "function": "tests.dist.two_groups:reward"},
            "compute": {"runner": "ray", "address": cluster.address, "shard_size": 2, **pools},
        }
    )
    try:
        run_data(config, runner=RayRunner(config.compute, config.root / "logs"))
        seen = [path.name.split(".") for path in (folder / "seen").iterdir()]
        print(json.dumps({"nodes": nodes, "seen": sorted(seen)}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
