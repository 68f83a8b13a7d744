"""Losses: the worked values of the papers' formulas, their gradients, and how they relate to each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.losses.helpers import inputs, make, random_inputs, value_and_gradient

SIGMOID, HINGE_NORM, HINGE = (make(kind, gamma=0.05) for kind in ("sigmoid_norm", "hinge_norm", "hinge"))
# L_w, L_l, R_w and R_l of the worked example, whose responses have 8 and 10 tokens; D = 1.3.
POLICY, REFERENCE, LENGTHS = [-12.0, -14.0], [-12.5, -13.2], [8, 10]
margins = st.floats(-50, 50)
seeds = st.integers(0, 2**32 - 1)


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def check(loss, example, items, gradient):
    found, slopes = value_and_gradient(loss, example)
    assert found.tolist() == pytest.approx(items, abs=1e-6)
    assert slopes.tolist() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [(SIGMOID, 0.661175, 0.024188), (HINGE_NORM, 0.935, 0.05), (HINGE, 0.9, 0.05)],
)
def test_the_worked_example_has_its_value_and_gradient(loss, value, slope):
    check(loss, inputs(POLICY, REFERENCE, num_tokens=LENGTHS), [value], [-slope, slope])


@pytest.mark.parametrize(("loss", "value", "slope"), [(SIGMOID, math.log(2), 0.025), (HINGE_NORM, 1.0, 0.05)])
def test_a_policy_that_is_the_reference_starts_at_the_known_value(loss, value, slope):
    check(loss, inputs([-7.0, -30.0], [-7.0, -30.0]), [value], [-slope, slope])


def test_the_hinge_norm_stops_pulling_once_the_margin_is_reached():
    check(HINGE_NORM, inputs([-10.0, -31.0], [-10.0, -10.0]), [0.0], [0.0, 0.0])


def test_slic_adds_the_pull_towards_the_target():
    loss = make("slic", delta=3.0, regularization=0.1)
    check(loss, inputs([*POLICY, -20.0], target=2), [3.0], [-1, 1, -0.1])


def test_slic_towards_the_best_takes_the_highest_reward():
    loss = make("slic", delta=3.0, regularization=0.1, y_ref="best")
    # The best is the third, or the chosen one of the pair itself, whose slope then is -1 - lambda.
    check(loss, inputs([*POLICY, -20.0], rewards=[0.3, 0.1, 0.9]), [3.0], [-1, 1, -0.1])
    check(loss, inputs([*POLICY, -20.0], rewards=[0.9, 0.1, 0.3]), [2.2], [-1.1, 1, 0])


def test_slic_counts_the_pull_once_for_a_group_however_many_pairs_it_has():
    example = inputs([*POLICY, -20.0], pairs=[[0, 1], [0, 2], [1, 2], [2, 0]], target=2)
    plain, _ = value_and_gradient(make("slic", delta=3.0), example)
    items, gradient = value_and_gradient(make("slic", delta=3.0, regularization=0.1), example)
    assert (items - plain).tolist() == pytest.approx([0.5] * 4)  # -0.1 * -20 over four pairs
    assert gradient[2].item() == pytest.approx(-0.1 - 1 + 0 + 0)  # the pull; of the hinges only (2, 0) is on


def test_slic_leaves_a_group_without_a_target_unregularised():
    check(make("slic", delta=3.0, regularization=0.1), inputs(POLICY), [1.0], [-1, 1])


@pytest.mark.parametrize(("normalized", "value", "slope"), [(False, 12.0, 1.0), (True, 1.5, 0.125)])
def test_cross_entropy_is_the_negative_log_probability_or_its_mean_per_token(normalized, value, slope):
    loss = make("cross_entropy", length_normalized=normalized)
    check(loss, inputs([-12.0], num_tokens=[8], pairs=[]), [value], [-slope])


def test_rrhf_ranks_by_mean_log_probability_and_imitates_the_best():
    example = inputs([-12.0, -14.0, -18.0], num_tokens=[8, 10, 10], rewards=[1.0, 0.2, 0.6], pairs=[])
    check(make("rrhf"), example, [12.5], [-1.125, 0.2, -0.1])


def test_rrhf_of_equal_rewards_ranks_nothing_and_imitates_all_alike():
    check(make("rrhf"), inputs([-12.0, -14.0], rewards=[0.5, 0.5], pairs=[]), [13.0], [-0.5, -0.5])


def test_r_dpo_pulls_less_where_the_chosen_response_is_longer():
    loss = make("r_dpo", gamma=0.05, alpha=0.1)
    for longer, z in ((+2, 0.065 + 0.2), (-2, 0.065 - 0.2)):
        slope = 0.05 * sigmoid(-z)
        example = inputs(POLICY, REFERENCE, num_tokens=[10 + longer, 10])
        check(loss, example, [softplus(-z)], [-slope, slope])


def test_simpo_compares_mean_log_probabilities_to_a_target_margin():
    z = 2 * -12 / 8 - 2 * -14 / 10 - 1  # -1.2
    slope = sigmoid(-z)
    loss = make("simpo", gamma=2.0, target_margin=1.0)
    check(loss, inputs(POLICY, num_tokens=LENGTHS), [1.463282], [-2 / 8 * slope, 2 / 10 * slope])


def test_bradley_terry_reads_the_scores_as_logits():
    check(make("bradley_terry"), inputs([1.0, -0.5]), [softplus(-1.5)], [-sigmoid(-1.5), sigmoid(-1.5)])


@pytest.mark.parametrize(
    ("margin", "reward", "value", "slope"),
    [
        ("offset", 0.8, softplus(0.4 - 0.065), 0.05 * sigmoid(0.4 - 0.065)),
        ("offset", -0.8, softplus(-0.4 - 0.065), 0.05 * sigmoid(-0.4 - 0.065)),
        (
            "log_offset",
            0.8,
            softplus(0.5 * math.log(0.8) - 0.065),
            0.05 * sigmoid(0.5 * math.log(0.8) - 0.065),
        ),
        ("log_offset", -0.8, 0.0, 0.0),
        ("weight", 0.8, 0.4 * 0.661175, 0.4 * 0.024188),
        ("weight", -0.8, 0.0, 0.0),
    ],
)
def test_the_reward_margin_enters_as_an_offset_or_as_a_weight(margin, reward, value, slope):
    loss = make("margin_weighted", gamma=0.05, alpha=0.5, margin=margin)
    check(loss, inputs(POLICY, REFERENCE, rewards=[reward, 0.0]), [value], [-slope, slope])


@given(margins, margins)
def test_swapping_the_labels_of_a_logistic_loss_changes_it_by_its_margin(winner, loser):
    """softplus(-z) - softplus(z) = -z; for r_dpo the length difference changes its sign with the pair."""
    example = {"logprobs": torch.tensor([winner, loser], dtype=torch.float64), "ref_logprobs": [-3.0, 2.0]}
    difference = winner - loser + 5
    z = {
        "sigmoid_norm": 0.05 * difference,
        "r_dpo": 0.05 * difference - 0.01,  # 8 and 9 tokens
        "bradley_terry": winner - loser,
    }
    for kind, expected in z.items():
        forward, swapped = (make(kind)(inputs(**example, pairs=pairs)) for pairs in ([[0, 1]], [[1, 0]]))
        assert (forward - swapped).item() == pytest.approx(-expected, abs=1e-6)


@given(seeds, st.floats(0.01, 100))
def test_slic_without_a_pull_is_delta_times_the_hinge(seed, delta):
    example = random_inputs(seed)
    items, gradient = value_and_gradient(make("slic", delta=delta), example)
    scaled, slopes = value_and_gradient(make("hinge", gamma=1 / delta), example)
    torch.testing.assert_close(items, delta * scaled)
    torch.testing.assert_close(gradient, delta * slopes)


@given(seeds)
def test_losses_that_extend_dpo_are_dpo_where_their_term_vanishes(seed):
    example = random_inputs(seed)
    dpo = SIGMOID(example)
    torch.testing.assert_close(make("r_dpo", alpha=0.0)(example), dpo)
    torch.testing.assert_close(make("margin_weighted", alpha=0.0)(example), dpo)
    chosen, rejected = example.pairs.T
    margin = (example.rewards[chosen] - example.rewards[rejected]).clamp(min=0)
    torch.testing.assert_close(make("margin_weighted", margin="weight")(example), margin * dpo)


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        *(
            (kind, {"gamma": 0}, "greater than 0")
            for kind in ("sigmoid_norm", "hinge_norm", "hinge", "simpo")
        ),
        ("slic", {"delta": 0}, "greater than 0"),
        ("slic", {"regularization": -0.1}, "greater than or equal to 0"),
        ("slic", {"y_ref": "worst"}, "'target' or 'best'"),
        ("margin_weighted", {"margin": "none"}, "'offset', 'log_offset' or 'weight'"),
        ("rrhf", {"gamma": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, option, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **option)
