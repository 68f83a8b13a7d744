"""First-round and tournament pairs: how many, of whom, and labelled by the reward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.options import build
from rayflow.pairing.first_round import FirstRound
from rayflow.pairing.labels import by_reward
from rayflow.pairing.tournament import Tournament

RULES = [FirstRound, Tournament]


def pair(rule, accepted, rewards, seed=0, **options):
    pairing = build("pairing", rule.Config(**options))
    accepted, rewards = np.array(accepted, dtype=np.int32), np.array(rewards, dtype=np.float64)
    return pairing.pair(accepted, rewards, np.random.default_rng(seed), by_reward(rewards))


@st.composite
def groups(draw):
    """Rewards of n candidates with many ties, and the indices of those accepted."""
    rewards = draw(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=24))
    accepted = draw(st.lists(st.integers(0, len(rewards) - 1), unique=True))
    return accepted, rewards


@pytest.mark.parametrize("rule", RULES)
@given(groups(), st.integers(0, 2**32), st.sampled_from(["drop", "random"]))
def test_the_chosen_is_never_worse_and_never_a_stranger(rule, group, seed, ties):
    accepted, rewards = group
    pairs = pair(rule, accepted, rewards, seed, ties=ties)
    assert pairs.dtype == np.int32
    assert pairs.shape == (len(pairs), 2)
    assert set(pairs.ravel().tolist()) <= set(accepted)
    gaps = np.array(rewards)[pairs[:, 0]] - np.array(rewards)[pairs[:, 1]]
    assert (gaps > 0).all() if ties == "drop" else (gaps >= 0).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()


@given(groups(), st.integers(0, 2**32))
def test_first_round_pairs_are_disjoint_and_half_as_many(group, seed):
    accepted, rewards = group
    pairs = pair(FirstRound, accepted, rewards, seed, ties="random")
    assert len(pairs) == len(accepted) // 2
    assert len(set(pairs.ravel().tolist())) == 2 * len(pairs)


@given(groups(), st.integers(0, 2**32))
def test_a_tournament_eliminates_all_but_one_exactly_once(group, seed):
    accepted, rewards = group
    pairs = pair(Tournament, accepted, rewards, seed, ties="random")
    assert len(pairs) == max(0, len(accepted) - 1)
    losers = pairs[:, 1].tolist()
    assert len(set(losers)) == len(losers)
    if len(accepted) > 1:
        assert set(accepted) - set(losers) == {pairs[-1, 0]}
        assert rewards[pairs[-1, 0]] == max(rewards[i] for i in accepted)


def test_a_loser_of_the_tournament_does_not_play_again():
    pairs = pair(Tournament, range(13), np.arange(13.0), seed=4)
    for game, loser in enumerate(pairs[:, 1]):
        assert loser not in pairs[game + 1 :]


def test_a_tournament_of_five_gives_nobody_two_byes():
    """5 players: games of rounds are 2, 1, 1; the one with the bye of round 1 must play in round 2."""
    for seed in range(30):
        pairs = pair(Tournament, range(5), np.arange(5.0), seed)
        first_round = set(pairs[:2].ravel().tolist())
        (with_bye,) = set(range(5)) - first_round
        assert with_bye in pairs[2]


@pytest.mark.parametrize("rule", RULES)
def test_eight_different_rewards_give_the_papers_counts(rule):
    pairs = pair(rule, [3, 9, 1, 0, 12, 7, 5, 2], np.arange(16.0))
    assert len(pairs) == {FirstRound: 4, Tournament: 7}[rule]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("accepted", [[], [2]])
def test_fewer_than_two_responses_make_no_pair(rule, accepted):
    pairs = pair(rule, accepted, [0.0, 1.0, 2.0])
    assert (pairs.shape, pairs.dtype) == ((0, 2), np.int32)


@pytest.mark.parametrize("rule", RULES)
def test_ties_are_dropped_by_default(rule):
    pairs = pair(rule, range(6), [1.0] * 6)
    assert (pairs.shape, pairs.dtype) == ((0, 2), np.int32)


@pytest.mark.parametrize("rule", RULES)
def test_kept_ties_are_labelled_by_a_fair_coin(rule):
    lower_chosen = [pair(rule, [0, 1], [1.0, 1.0], seed, ties="random")[0, 0] == 0 for seed in range(1000)]
    assert np.mean(lower_chosen) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("rule", RULES)
def test_pairs_depend_on_the_rows_generator_only(rule):
    draws = [pair(rule, range(8), np.arange(8.0), seed).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_first_round_ignores_acceptance_order():
    """Every response meets the first one equally often, though the first two were accepted together."""
    partners = []
    for seed in range(1200):
        pairs = pair(FirstRound, range(4), np.arange(4.0), seed)
        (game,) = pairs[(pairs == 0).any(axis=1)]
        partners.append(game.sum())  # the partner's index, since the other is 0
    assert np.bincount(partners)[1:] / 1200 == pytest.approx([1 / 3] * 3, abs=0.06)
