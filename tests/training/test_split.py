"""A group that is longer than a pass gives the loss, the metrics and the gradients of the whole group."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rayflow.core.branches import SHARED_FAMILIES
from rayflow.training.checkpoints import FolderStore
from rayflow.training.groups import GroupFile, TrainingGroup, write_groups
from rayflow.training.layout import Layout, lengths_of
from rayflow.training.logprobs import response_logprobs
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.pack import pack
from rayflow.training.plain import PlainBackend
from rayflow.training.reference import ReferenceScorer
from rayflow.training.schedule import MicroStep, OptimizerStep
from rayflow.training.steps import Steps
from tests.losses.helpers import every_loss
from tests.training.helpers import (
    gradients,
    random_branches,
    reproducible,
    small_job,
    tiny_config,
    write_random_groups,
)


def tiny(family: str):
    torch.manual_seed(0)
    config = tiny_config(family)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", sorted(SHARED_FAMILIES))
def test_the_parts_of_a_group_give_the_whole_groups_log_probabilities_and_gradients(family, shared):
    model, (group,) = tiny(family), random_branches(1, k=6, vocabulary=120)
    batches = Layout(shared, lengths_of([group])).micro_batches([0], len(group[0]) + 15)
    assert len(batches) > 1
    order = [i for batch in batches for i in batch.part]
    whole = response_logprobs(model, pack([group], shared=shared), head_only=True)[order]
    expected = gradients(model, whole)
    parts = torch.cat(
        [
            response_logprobs(model, pack(b.branches(lambda _: group), shared=shared), head_only=True)
            for b in batches
        ]
    )
    assert torch.allclose(parts, whole, atol=1e-4)
    assert (gradients(model, parts) - expected).norm() < 1e-3 * expected.norm()


class Recorder(PlainBackend):
    """Keeps the gradient of the step instead of taking it."""

    def step(self, learning_rate: float) -> float:
        self.gradient = torch.cat([w.grad.flatten() for w in self.weights if w.grad is not None])
        for weight in self.weights:
            weight.grad = None
        return float(self.gradient.norm())


@pytest.fixture(scope="module")
def one_group(tiny_model, tmp_path_factory):
    """A group of six responses, of which one is the target, with pairs across the parts that it is split into."""
    folder = tmp_path_factory.mktemp("one")
    ((prompt, responses),) = random_branches(1, k=6, seed=5)
    rng = np.random.default_rng(1)
    scorer = ReferenceScorer(tiny_model, "float32")
    scorer.setup()
    (own,) = scorer.score([(prompt, responses)])
    reference = (own + rng.normal(0, 2, 6)).astype(np.float32)  # some pairs right, some wrong
    pairs = np.array([[0, 5], [4, 1], [2, 3], [3, 0]], dtype=np.int32)
    group = TrainingGroup(
        prompt_id="p",
        prompt_token_ids=prompt,
        response_token_ids=tuple(responses),
        rewards=np.array([0.9, 0.1, 0.5, 0.4, 0.7, 0.2]),
        ref_logprobs=reference,
        pairs=pairs,
        target=2,
    )
    write_groups(folder / "groups.arrow", [group])
    return folder / "groups.arrow"


@pytest.fixture(scope="module")
def backend(tiny_model, one_group, tmp_path_factory):
    recorder = Recorder()
    recorder.setup(small_job(tiny_model, one_group, tmp_path_factory.mktemp("backend")))
    return recorder


@every_loss
def test_every_loss_has_the_whole_groups_gradient_and_metrics(
    loss, backend, tiny_model, one_group, tmp_path, request
):
    job = small_job(tiny_model, one_group, tmp_path)
    steps = Steps(job, GroupFile(one_group), backend)
    options = SimpleNamespace(gamma=getattr(loss, "gamma", 1.0))
    steps.loss, steps.options = loss, job.options.model_copy(update={"loss": options})
    steps.units = np.array([{"pairs": 4, "responses": 6, "groups": 1}[loss.unit]])
    whole = OptimizerStep(0, (0,), ((MicroStep((0,)),),), ((),))
    parts = tuple(MicroStep((0,), part) for part in ((1, 5), (0, 2, 4), (3,)))
    split = OptimizerStep(0, (0,), (parts,), (parts[::-1],))
    found = []
    for plan in (whole, split):
        metrics = steps.run(1, plan)
        found.append((metrics, backend.gradient))
    (expected, gradient), (got, own) = found
    assert gradient.norm() > 0
    assert (own - gradient).norm() < 1e-3 * gradient.norm()
    for name in reproducible([expected])[0]:
        assert got[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("budget", [20, 45])
@pytest.mark.parametrize("share", [True, False])
def test_a_small_budget_changes_no_step_of_a_training(tiny_model, tmp_path, budget, share):
    groups = write_random_groups(tmp_path / "groups.arrow", tiny_model, num_groups=11)
    lines = {}
    for tokens in (10_000, budget):
        job = small_job(
            tiny_model, groups, tmp_path / str(tokens), micro_batch_tokens=tokens, share_prompt=share
        )
        train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", 1))
        lines[tokens] = read_metrics(job.metrics_path)
    assert len(lines[budget]) == 4
    # Not the accuracy: at the first step policy and reference are one, and rounding decides who is ahead.
    for key in ("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/margins"):
        assert [x[key] for x in lines[budget]] == pytest.approx(
            [x[key] for x in lines[10_000]], abs=1e-4, rel=1e-4
        )


def test_a_reward_models_groups_are_split_as_a_policys(tiny_model, tmp_path):
    groups = write_random_groups(tmp_path / "groups.arrow", tiny_model, num_groups=6)
    found = []
    for tokens in (10_000, 30):
        job = small_job(
            tiny_model, groups, tmp_path / str(tokens), loss="bradley_terry", micro_batch_tokens=tokens
        )
        job = dataclasses.replace(job, objective="reward")
        train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", 1))
        found.append(
            [(x["loss"], x["grad_norm"], x["rewards/margins"]) for x in read_metrics(job.metrics_path)]
        )
    assert np.allclose(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_a_loss_that_is_flat_at_every_response_has_no_gradient_and_does_not_fail(tiny_model, tmp_path):
    """A hinge that all pairs have long passed."""
    groups = write_random_groups(tmp_path / "g.arrow", tiny_model, num_groups=2)
    file = GroupFile(groups)
    far = np.array([0, -1e4, 0, -1e4], dtype=np.float32)  # the chosen ones gained 10,000 nats
    write_groups(
        tmp_path / "far.arrow",
        [dataclasses.replace(file[i], ref_logprobs=file[i].ref_logprobs + far) for i in range(2)],
    )
    job = small_job(
        tiny_model, tmp_path / "far.arrow", tmp_path / "out", loss="hinge_norm", micro_batch_tokens=20
    )
    train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", 1))
    assert all(line["loss"] == 0 and line["grad_norm"] == 0 for line in read_metrics(job.metrics_path))


@pytest.mark.parametrize("share_prompt", [True, False])
def test_a_group_without_responses_costs_nothing_whether_alone_or_among_others(tiny_model, share_prompt):
    """A tie leaves a prompt without pairs; a shard may hold nothing else."""
    some = random_branches(2)
    scorer = ReferenceScorer(tiny_model, "float32", share_prompt=share_prompt)
    scorer.setup()
    empty = (some[0][0], [])
    assert [values.shape for values in scorer.score([empty, empty])] == [(0,), (0,)]
    mixed = scorer.score([empty, some[0], empty, some[1]])
    assert [len(values) for values in mixed] == [0, len(some[0][1]), 0, len(some[1][1])]
    for found, expected in zip([mixed[1], mixed[3]], scorer.score(some), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_the_reference_of_a_group_in_parts_is_that_of_the_whole(tiny_model):
    branches = random_branches(5)
    values = []
    for budget in (20, 4096):
        scorer = ReferenceScorer(tiny_model, "float32", budget)
        scorer.setup()
        values.append(scorer.score(branches))
    for part, whole in zip(*values, strict=True):
        assert part == pytest.approx(whole, abs=1e-4)
