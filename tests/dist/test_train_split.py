"""Under ZeRO-3 no worker's device holds the whole model, from before DeepSpeed gets it on."""

from __future__ import annotations

import dataclasses
import math

import pytest

from rayflow.training.deepspeed import DeepSpeedBackend
from rayflow.training.deepspeed_library import import_deepspeed
from tests.training.helpers import small_job, write_random_groups
from tests.training.workers import run_workers

pytestmark = pytest.mark.trainer


def numbers_held(module):
    """Of every weight how many of its numbers are there, how many this worker keeps, and how many it has."""
    return [(p.numel(), p.ds_tensor.numel(), p.ds_numel) for p in module.parameters()]


def before_and_after(jobs):
    """`numbers_held` of what DeepSpeed gets of each job, and of what it then holds."""
    library = import_deepspeed()
    initialize, found = library.initialize, []

    def look(**given):
        found.append(numbers_held(given["model"]))
        return initialize(**given)

    library.initialize = look
    for job in jobs:
        backend = DeepSpeedBackend()
        backend.setup(job)
        found.append(numbers_held(backend.engine.module))
    return found


@pytest.mark.slow
def test_each_worker_holds_half_of_every_weight_before_deepspeed_gets_the_model(tiny_model, tmp_path):
    groups = write_random_groups(tmp_path / "groups.arrow", tiny_model, num_groups=2)
    policy = small_job(tiny_model, groups, tmp_path / "out", zero_stage=3)
    reward = dataclasses.replace(policy, objective="reward")
    for of_worker in run_workers(2, before_and_after, [policy, reward]):
        assert len(of_worker) == 4
        for before, after in zip(of_worker[::2], of_worker[1::2], strict=True):
            assert len(before) > 10 and all(there == 0 for there, _, _ in before)
            for held in (before, after):
                assert all(own == math.ceil(whole / 2) for _, own, whole in held)
