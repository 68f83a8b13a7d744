"""From numbers of GPUs to machines and pools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.cluster.options import ClusterOptions
from rayflow.cluster.render import render
from rayflow.cluster.sizing import Group, compute_settings, groups
from rayflow.config import ComputeOptions, PoolOptions
from rayflow.config.load import load_options
from rayflow.errors import ConfigError


def test_each_kind_of_work_gets_the_fewest_machines_that_are_alike() -> None:
    options = ClusterOptions(
        gpus_sampling=16, gpus_reward=4, gpus_train=12, cpus_per_gpu=8, memory_per_gpu=64
    )
    assert groups(options) == (
        Group("sampler", 2, 8, 64, 512),
        Group("reward", 1, 4, 32, 256),
        Group("trainer", 2, 6, 48, 384),
    )


def test_without_reward_gpus_there_is_no_reward_group_and_rewards_run_on_cpus() -> None:
    options = ClusterOptions(gpus_sampling=8, gpus_train=8)
    assert [group.name for group in groups(options)] == ["sampler", "trainer"]
    score = compute_settings(options)["compute"]["score"]
    assert "num_gpus" not in score and "resources" not in score


def test_an_engine_over_several_gpus_takes_as_many_of_everything() -> None:
    settings = compute_settings(ClusterOptions(gpus_sampling=16, gpus_train=8, tensor_parallel=4))
    assert settings["sample"] == {"engine": {"tensor_parallel_size": 4}}
    sample = settings["compute"]["sample"]
    assert (sample["num_workers"], sample["num_gpus"], sample["resources"]) == (4, 4, {"sampler": 4})


def test_one_gpu_is_shared_and_the_engine_leaves_room_for_the_reward() -> None:
    settings = compute_settings(ClusterOptions(gpus=1))
    assert settings["sample"] == {"engine": {"gpu_memory_utilization": 0.5}}
    compute = settings["compute"]
    assert compute["sample"]["num_gpus"] + compute["score"]["num_gpus"] == 1


@pytest.mark.parametrize("command", ["run", "refresh", "evaluate"])
def test_every_job_that_samples_gets_the_engines_settings(command: str) -> None:
    settings = compute_settings(ClusterOptions(gpus=1, command=command))
    assert settings["sample"] == {"engine": {"gpu_memory_utilization": 0.5}}


def test_a_reward_models_training_has_no_engine_and_gets_no_settings_for_one() -> None:
    assert "sample" not in compute_settings(ClusterOptions(gpus=1, command="train-reward"))
    assert "sample" not in compute_settings(ClusterOptions(gpus=1, engine="transformers"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "say how many GPUs"),
        ({"gpus_sampling": 8}, "say how many GPUs"),
        ({"gpus": 8, "gpus_train": 8}, "give one or the other"),
        ({"gpus": 8, "gpu_per_node": 8}, "unknown key. Did you mean 'gpus_per_node'"),
        ({"gpus": 8, "name": "Bad_Name"}, "name: String should match pattern"),
        ({"gpus": 8, "gpus_per_node": 0}, "greater than 0"),
    ],
)
def test_a_mistake_says_what_to_do(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_options(settings, None, ClusterOptions, "The cluster")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpus_sampling": 13, "gpus_train": 8}, "cannot be split over 2 machines alike .* Take 12 or 14"),
        ({"gpus_sampling": 16, "gpus_train": 8, "tensor_parallel": 16}, "must lie on one machine"),
        ({"gpus_sampling": 6, "gpus_train": 8, "tensor_parallel": 4}, "must be a multiple"),
        ({"gpus": 8, "tensor_parallel": 2}, "needs machines of its own"),
        ({"gpus": 8, "gpu_type": "h100"}, "Unknown gpu_type 'h100'. Did you mean 'H100'"),
        ({"gpus": 8, "gpu_type": "L4", "cpus_per_gpu": 64}, "No machine of AWS with L4 holds"),
        ({"gpus": 8, "head_cpus": 100}, "head_cpus=100"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(ClusterOptions(**settings))


@given(
    gpus=st.integers(1, 512),
    per_node=st.sampled_from([1, 2, 4, 8, 16]),
    reward=st.sampled_from(["model", "pairwise", "none"]),
)
def test_a_shared_cluster_uses_every_gpu_and_no_more(gpus: int, per_node: int, reward: str) -> None:
    options = ClusterOptions(gpus=gpus, gpus_per_node=per_node, reward=reward)
    try:
        (group,) = groups(options)
    except ConfigError as error:
        assert "cannot be split" in str(error)
        return
    assert group.count * group.gpus == gpus and group.gpus <= per_node
    compute = ComputeOptions.model_validate(compute_settings(options)["compute"])
    label = compute.label if reward == "pairwise" else PoolOptions(num_gpus=0)
    once, twice = (
        sum(pool.num_workers * pool.num_gpus for pool in (compute.sample, compute.score, *labels))
        for labels in ([label], [label, label])  # a selection may hold the label pool once more
    )
    assert once <= gpus <= twice or reward != "pairwise" and once == gpus
    assert compute.train.num_workers == compute.reference.num_workers == gpus
    assert sum(node.count * node.num_gpus for node in compute.nodes) == gpus
