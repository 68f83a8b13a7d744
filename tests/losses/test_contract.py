"""What every registered loss keeps, with every option that changes what it computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.core.registry import FAMILIES
from rayflow.errors import StageError
from rayflow.losses.base import LossInputs, implicit_rewards, loss_items, needs
from tests.losses.helpers import every_loss, inputs, make, random_inputs, value_and_gradient

seeds = st.integers(0, 2**32 - 1)


def num_units(loss, given: LossInputs) -> int:
    sizes = {"pairs": len(given.pairs), "responses": len(given.logprobs), "groups": given.num_groups}
    return sizes[loss.unit]


@every_loss
@given(seeds)
@settings(max_examples=20)
def test_there_is_one_finite_item_per_unit(loss, seed):
    example = random_inputs(seed, torch.float32)
    items, gradient = value_and_gradient(loss, example)
    assert items.shape == (num_units(loss, example),)
    assert items.dtype == torch.float32
    assert torch.isfinite(items).all() and torch.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("z", [1e4, -1e4])
def test_value_and_gradient_are_finite_at_extreme_margins(loss, z):
    gamma = getattr(loss, "gamma", 1.0)
    given = inputs([z / gamma, 0.0], [0.0, 0.0], rewards=[1.0, 0.0], target=0, num_tokens=[1, 1])
    items, gradient = value_and_gradient(loss, given)
    assert torch.isfinite(items).all() and torch.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_agrees_with_finite_differences(loss, seed):
    given = random_inputs(seed)
    logprobs = given.logprobs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(replace(given, logprobs=x)), (logprobs,))


@every_loss
def test_only_the_policy_gets_a_gradient(loss):
    example = random_inputs(0)
    reference, rewards = example.ref_logprobs.requires_grad_(), example.rewards
    logprobs = example.logprobs.requires_grad_()
    loss(replace(example, logprobs=logprobs, ref_logprobs=reference, rewards=rewards)).sum().backward()
    assert reference.grad is None
    assert logprobs.grad.any()


@every_loss
@given(seeds, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_order_of_responses_groups_and_pairs_does_not_matter(loss, seed, random):
    example = random_inputs(seed)
    if seed % 2:  # the start of a training: nothing but ties
        example = replace(example, ref_logprobs=example.logprobs.clone(), rewards=example.rewards.round())
    orders = [torch.tensor(random.sample(range(n), n)) for n in map(len, (example.groups, example.targets))]
    responses, groups = orders
    pairs = torch.tensor(random.sample(range(len(example.pairs)), len(example.pairs)))
    place = responses.argsort()  # old position -> new position
    moved = LossInputs(
        logprobs=example.logprobs[responses],
        ref_logprobs=example.ref_logprobs[responses],
        num_tokens=example.num_tokens[responses],
        rewards=example.rewards[responses],
        groups=groups.argsort()[example.groups[responses]],
        pairs=place[example.pairs[pairs]],
        targets=torch.where(example.targets >= 0, place[example.targets], -1)[groups],
    )
    items, gradient = value_and_gradient(loss, example)
    moved_items, moved_gradient = value_and_gradient(loss, moved)
    order = {"pairs": pairs, "responses": responses, "groups": groups}[loss.unit]
    torch.testing.assert_close(moved_items, items[order])
    torch.testing.assert_close(moved_gradient, gradient[responses])


@every_loss
@given(seeds)
@settings(max_examples=20)
def test_a_group_counts_the_same_alone_and_in_a_batch(loss, seed):
    """So micro-batches of any size add up to the same."""
    example = random_inputs(seed)
    items, _ = value_and_gradient(loss, example)
    alone = []
    for group in range(example.num_groups):
        members = (example.groups == group).nonzero()[:, 0]
        start, own = int(members[0]), torch.isin(example.pairs[:, 0], members)
        target = int(example.targets[group])
        part = LossInputs(
            logprobs=example.logprobs[members],
            ref_logprobs=example.ref_logprobs[members],
            num_tokens=example.num_tokens[members],
            rewards=example.rewards[members],
            groups=torch.zeros_like(members),
            pairs=example.pairs[own] - start,
            targets=torch.tensor([target - start if target >= 0 else -1]),
        )
        alone.append(loss(part))
    torch.testing.assert_close(torch.cat(alone), items)


@every_loss
def test_a_loss_reads_what_it_declares_and_nothing_else(loss):
    pairs = [[0, 1], [2, 1], [0, 2]]
    example = inputs([-9.0, -12.0, -14.0], [-9.5, -11.0, -15.0], pairs, target=1)
    items = loss(example)
    unknown = torch.full_like(example.logprobs, torch.nan)
    blinded = {
        "reference": replace(example, ref_logprobs=unknown),
        "rewards": replace(example, rewards=unknown),
        "targets": replace(example, targets=torch.full_like(example.targets, -1)),
    }
    for what, without in blinded.items():
        declared = getattr(needs(loss), what)
        changed = not torch.equal(loss(without), items)
        assert changed == declared, what
        if declared and what != "targets":  # an unknown number must not pass for a known one
            assert torch.isnan(loss(without)).all(), what


@every_loss
def test_a_loss_reads_responses_in_no_pair_only_where_it_says_so(loss):
    example = inputs([-9.0, -12.0, -14.0], [-9.5, -11.0, -15.0], [[1, 2]], rewards=[2.0, 1.0, 0.0], target=1)
    unknown = {
        name: torch.cat([torch.tensor([torch.nan]), getattr(example, name)[1:]])
        for name in ("logprobs", "ref_logprobs", "rewards")
    }
    same = torch.equal(loss(replace(example, **unknown)), loss(example))
    assert same != needs(loss).unpaired


@pytest.mark.parametrize("kind", sorted(FAMILIES["loss"]))
def test_the_class_itself_declares_its_unit_and_what_it_reads(kind):
    declared = {"unit", "uses_reference", "uses_rewards", "uses_targets", "uses_unpaired"}
    assert declared <= set(vars(type(make(kind))))


@pytest.mark.parametrize(
    ("options", "rewards", "targets"),
    [
        ({}, False, False),
        ({"y_ref": "best"}, False, False),
        ({"regularization": 1.0}, False, True),
        ({"regularization": 1.0, "y_ref": "best"}, True, False),
    ],
)
def test_what_slic_reads_is_decided_by_its_options(options, rewards, targets):
    found = needs(make("slic", **options))
    assert (found.reference, found.rewards, found.targets) == (False, rewards, targets)


def test_a_plug_in_that_declares_nothing_gets_the_reference():
    class Theirs:
        pass

    found = needs(Theirs())
    assert (found.reference, found.rewards, found.targets) == (True, False, False)


@every_loss
@given(seeds)
@settings(max_examples=10)
def test_implicit_rewards_are_known_where_the_reference_is_not(loss, seed):
    example = random_inputs(seed)
    if not needs(loss).reference:
        example = replace(example, ref_logprobs=torch.full_like(example.logprobs, torch.nan))
    found = implicit_rewards(loss, example, getattr(loss, "gamma", 1.0))
    assert found.shape == example.logprobs.shape
    assert torch.isfinite(found).all() and not found.requires_grad


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("sigmoid_norm", {"gamma": 0.1}, [0.05, -0.08]),
        ("hinge", {"gamma": 0.1}, [-1.2, -1.4]),
        ("slic", {}, [-12.0, -14.0]),
        ("rrhf", {}, [-1.5, -1.4]),
        ("simpo", {"gamma": 2.0}, [-3.0, -2.8]),
        ("bradley_terry", {}, [-12.0, -14.0]),
    ],
)
def test_implicit_rewards_are_what_the_loss_ranks_by(kind, options, expected):
    given = inputs([-12.0, -14.0], [-12.5, -13.2], num_tokens=[8, 10])
    found = implicit_rewards(make(kind, **options), given, options.get("gamma", 1.0))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("way", ["mean", "responses", "matrix"])
def test_a_loss_that_gives_no_number_for_each_item_is_refused(way):
    class Theirs:
        unit = "pairs"

        def __call__(self, inputs):
            chosen, rejected = inputs.pairs.unbind(dim=1)
            items = inputs.logprobs[rejected] - inputs.logprobs[chosen]
            return {"mean": items.mean(), "responses": inputs.logprobs, "matrix": items - items[:, None]}[way]

    with pytest.raises(StageError, match=r"Theirs must return one number for each of the \d+ pairs"):
        loss_items(Theirs(), random_inputs(3))


@every_loss
@given(seeds)
@settings(max_examples=10)
def test_every_loss_gives_a_number_for_each_item(loss, seed):
    example = random_inputs(seed)
    assert torch.equal(loss_items(loss, example), loss(example))
