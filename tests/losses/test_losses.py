"""Losses: the worked values of the papers' formulas, their gradients, and what every registered loss keeps."""

from __future__ import annotations

import math

import pytest
import torch

from rayflow.core.registry import FAMILIES, resolve
from rayflow.losses.base import LossInputs
from rayflow.losses.hinge import Hinge
from rayflow.losses.hinge_norm import HingeNorm
from rayflow.losses.sigmoid_norm import SigmoidNorm


def inputs(logprobs, ref_logprobs, pairs=((0, 1),)) -> LossInputs:
    m = len(logprobs)
    return LossInputs(
        logprobs=logprobs,
        ref_logprobs=ref_logprobs,
        num_tokens=torch.arange(8, 8 + m),
        rewards=torch.linspace(1, 0, m),
        groups=torch.zeros(m, dtype=torch.int64),
        pairs=torch.tensor(pairs),
        targets=torch.full((1,), -1),
    )


def value_and_gradient(loss, policy, reference, pairs=((0, 1),), dtype=torch.float32):
    logprobs = torch.tensor(policy, dtype=dtype, requires_grad=True)
    items = loss(inputs(logprobs, torch.tensor(reference, dtype=dtype), pairs))
    items.sum().backward()
    return items.detach(), logprobs.grad


SIGMOID = SigmoidNorm(SigmoidNorm.Config(gamma=0.05))
HINGE = HingeNorm(HingeNorm.Config(gamma=0.05))


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [(SIGMOID, 0.661175, 0.024188), (HINGE, 0.935, 0.05)],
)
def test_the_worked_example_has_its_value_and_gradient(loss, value, slope):
    items, gradient = value_and_gradient(loss, [-12.0, -14.0], [-12.5, -13.2])
    assert items.tolist() == pytest.approx([value], abs=1e-6)
    assert gradient.tolist() == pytest.approx([-slope, slope], abs=1e-6)


@pytest.mark.parametrize(("loss", "value", "slope"), [(SIGMOID, math.log(2), 0.025), (HINGE, 1.0, 0.05)])
def test_a_policy_that_is_the_reference_starts_at_the_known_value(loss, value, slope):
    items, gradient = value_and_gradient(loss, [-7.0, -30.0], [-7.0, -30.0])
    assert items.tolist() == pytest.approx([value], abs=1e-6)
    assert gradient.tolist() == pytest.approx([-slope, slope], abs=1e-6)


def test_the_hinge_without_a_reference_has_its_value_and_gradient():
    loss = Hinge(Hinge.Config(gamma=0.05))
    items, gradient = value_and_gradient(loss, [-12.0, -14.0], [-12.5, -13.2])
    assert items.tolist() == pytest.approx([0.9], abs=1e-6)
    assert gradient.tolist() == pytest.approx([-0.05, 0.05], abs=1e-6)
    moved, _ = value_and_gradient(loss, [-12.0, -14.0], [-99.0, 0.0])
    assert moved.tolist() == items.tolist()


def test_hinge_stops_pulling_once_the_margin_is_reached():
    items, gradient = value_and_gradient(HINGE, [-10.0, -31.0], [-10.0, -10.0])
    assert items.tolist() == [0.0]
    assert gradient.tolist() == [0.0, 0.0]


def test_swapping_the_labels_changes_the_sigmoid_loss_by_its_margin():
    policy, reference = [-12.0, -14.0], [-12.5, -13.2]
    forward, _ = value_and_gradient(SIGMOID, policy, reference)
    swapped, _ = value_and_gradient(SIGMOID, policy, reference, pairs=((1, 0),))
    assert float(forward - swapped) == pytest.approx(-0.05 * 1.3, abs=1e-6)  # sp(-z) - sp(z) = -z


@pytest.mark.parametrize("loss", [SigmoidNorm, HingeNorm])
def test_gamma_must_be_positive(loss):
    with pytest.raises(ValueError, match="greater than 0"):
        loss.Config(gamma=0)


@pytest.fixture(params=sorted(FAMILIES["loss"]))
def any_loss(request):
    cls = resolve("loss", request.param)
    return cls(cls.Config(kind=request.param))


POLICY, REFERENCE = [-12.0, -14.0, -9.0, -20.0], [-12.5, -13.2, -9.5, -19.0]
PAIRS = ((0, 1), (2, 3), (2, 1))


def test_every_loss_returns_one_finite_item_per_unit(any_loss):
    items, gradient = value_and_gradient(any_loss, POLICY, REFERENCE, PAIRS)
    assert len(items) == {"pairs": 3, "responses": 4, "groups": 1}[any_loss.unit]
    assert torch.isfinite(items).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("margin", [1e4, -1e4])
def test_every_loss_is_finite_at_extreme_margins(any_loss, margin):
    policy = [margin / 0.05, 0.0]
    items, gradient = value_and_gradient(any_loss, policy, [0.0, 0.0])
    assert torch.isfinite(items).all()
    assert torch.isfinite(gradient).all()


def test_every_loss_agrees_with_finite_differences(any_loss):
    logprobs = torch.tensor(POLICY, dtype=torch.float64, requires_grad=True)
    reference = torch.tensor(REFERENCE, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: any_loss(inputs(x, reference, PAIRS)), (logprobs,))


def test_no_loss_gives_the_reference_a_gradient(any_loss):
    reference = torch.tensor(REFERENCE, requires_grad=True)
    policy = torch.tensor(POLICY, requires_grad=True)
    any_loss(inputs(policy, reference, PAIRS)).sum().backward()
    assert reference.grad is None or not reference.grad.any()
