"""An evaluation on Ray stores what the local runner stores."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline.evaluation_helpers import evaluated, evaluation_settings, summary_of

SMALL = {"num_cpus": 0.25}


def test_both_runners_give_the_same_rows_and_numbers(ray_cluster: None, tmp_path: Path) -> None:
    """Without a model, so that the workers start quickly; both sides are then the same, and every item a tie."""
    settings = evaluation_settings(tmp_path, "fake-sft", "fake-policy")
    del settings["rewards"]["gold"]
    settings |= {"kl": None, "sample": {"engine": {"kind": "fake"}, "num_candidates": 4, "max_tokens": 60}}
    local, _ = evaluated({**settings, "name": "local"})
    pools = {name: SMALL for name in ("sample", "score", "transform", "judge")}
    ray, _ = evaluated({**settings, "name": "ray", "compute": {"shard_size": 4, **pools}})
    for name, artifact in local.artifacts.items():
        for index in range(artifact.num_shards):
            assert ray.artifacts[name].read_shard(index).equals(artifact.read_shard(index)), name
    one, other = summary_of(local), summary_of(ray)
    assert one["rewards"]["proxy"]["win_rate"]["win_rate"] == 0.5 and one["side_by_side"]["num_items"] == 7
    for part in ("rewards", "side_by_side", "diversity"):
        assert other[part] == one[part]
