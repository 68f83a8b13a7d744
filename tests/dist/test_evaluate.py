"""An evaluation on Ray stores what the local runner stores."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import build_tiny_model
from tests.pipeline.evaluation_helpers import evaluated, evaluation_settings, summary_of

SMALL = {"num_cpus": 0.25}


def test_both_runners_give_the_same_rows_and_numbers(
    ray_cluster: None, tiny_model: str, tmp_path: Path
) -> None:
    build_tiny_model(tmp_path / "policy", seed=1)
    settings = evaluation_settings(tmp_path, tiny_model, str(tmp_path / "policy"))
    local, _ = evaluated({**settings, "name": "local"})
    pools = {name: SMALL for name in ("sample", "score", "label", "transform", "reference", "judge")}
    ray, _ = evaluated({**settings, "name": "ray", "compute": {"shard_size": 4, **pools}})
    for name, artifact in local.artifacts.items():
        for index in range(artifact.num_shards):
            if name.startswith("kl-") and name != "kl-sample":
                continue  # rounding may depend on the process; the numbers are compared below
            assert ray.artifacts[name].read_shard(index).equals(artifact.read_shard(index)), name
    one, other = summary_of(local), summary_of(ray)
    assert other["rewards"] == one["rewards"] and other["side_by_side"] == one["side_by_side"]
    assert abs(other["kl"]["nats"] - one["kl"]["nats"]) < 1e-3
