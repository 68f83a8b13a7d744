"""Real DeepSpeed workers that compute in bfloat16: what they add up, and how they go on from a checkpoint."""

from __future__ import annotations

import pytest

from rayflow.training import deepspeed, models
from rayflow.training.deepspeed import DeepSpeedBackend
from rayflow.training.plain import PlainBackend
from tests.training.helpers import small_job, write_random_groups
from tests.training.workers import compute_in_half, optimizer_steps, run_workers

pytestmark = pytest.mark.trainer

STAGES = (1, 2, 3)
_config = deepspeed.engine_config


def in_several_parts(options):
    """As `engine_config`, but ZeRO-3 updates even a tiny model's weights part by part, as it does a large one's."""
    config = _config(options)
    if options.zero_stage == 3:
        config["zero_optimization"]["sub_group_size"] = 20_000
    return config


@pytest.fixture(scope="module")
def job(tiny_model, tmp_path_factory):
    """Makes a job of two optimizer steps of 16 micro-steps, every group one of its own."""
    folder = tmp_path_factory.mktemp("half")
    groups = write_random_groups(folder / "groups.arrow", tiny_model, num_groups=32)
    more = {"precision": "bfloat16", "batch_size": 16, "micro_batch_tokens": 120, "num_epochs": 1}

    def make(stage=1):
        return small_job(tiny_model, groups, folder / str(stage), share_prompt=False, zero_stage=stage, **more)

    return make


def saved_and_resumed(jobs):
    """For each job the gradient norms of both steps, and of the second from the checkpoint of the first."""
    compute_in_half()
    deepspeed.engine_config = in_several_parts
    norms = []
    for job in jobs:
        steps = optimizer_steps(job, DeepSpeedBackend(), save=job.output_dir / "saved")
        steps += optimizer_steps(job, DeepSpeedBackend(), load=job.output_dir / "saved")
        norms.append([step["grad_norm"] for step in steps])
    return norms


@pytest.fixture(scope="module")
def by_two(job):
    return run_workers(2, saved_and_resumed, [job(stage) for stage in STAGES])


def test_gradients_of_many_micro_steps_are_added_up_in_float32(job, by_two, monkeypatch):
    """In bfloat16 the norm is off by 3e-5 with as many."""
    monkeypatch.setattr(models, "computed_in", lambda dtype, device: dtype)
    first = optimizer_steps(job(), PlainBackend())[0]["grad_norm"]
    for of_worker in by_two:
        assert [norms[0] for norms in of_worker] == pytest.approx([first] * 3, rel=3e-6)


def test_a_checkpoint_goes_on_with_the_same_numbers(by_two):
    for of_worker in by_two:
        assert [norms[2] for norms in of_worker] == [norms[1] for norms in of_worker]
