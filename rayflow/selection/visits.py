"""The accept-or-reject visits of rejection sampling, for a block of prompts that advance together.

Rows in: rewards in the order of visits. Rows out: the accepted positions of that order.

Source: arXiv:2309.06657, Algorithm 1 and section 3.2.
"""

from __future__ import annotations

import numpy as np

from rayflow.selection.copies import Copies

_FAINT = 1e-200
"""A highest probability below this is too near the smallest floats to divide by."""
_NEVER = np.iinfo(np.int32).max


class Visits:
    """Algorithm 1: passes over the remaining candidates until every prompt has enough.

    A pass fixes the maximum reward of the remaining candidates, visits them in order and accepts each with
    `acceptance_probabilities`. It stops at once when enough are accepted; those accepted leave only at its
    end, those rejected are visited again in the next pass. Copies of an accepted text leave with it, and are
    passed over in the rest of the pass. The best remaining candidate is accepted with probability 1, so there
    are at most as many passes as acceptances.

    One random number v per candidate decides all its visits. It is uniform on (0, 1), and a visit with
    acceptance probability p accepts where v > 1 - p. After a rejection v is uniform on (0, 1 - p), so
    v / (1 - p) is as good as a fresh number for the next visit.

    Args:
        rewards: [p, n] float64 in the order of visits, -inf behind the last candidate.
        present: [p] int64 >= 1, candidates of each row.
        uniform: [p, n] float64 in (0, 1), independent. Overwritten.
        beta: temperature, >= 0, in units of the reward.
        num_accepted: how many to accept per row; where there are fewer texts, one of each.
        copies: which candidates have the same text; None where all texts differ.

    Attributes:
        accepted: [p, k] int64 positions in acceptance order; of row i the first num_accepted[i] are valid.
        num_accepted, num_rounds, num_visits: [p] int64.
    """

    def __init__(
        self,
        rewards: np.ndarray,
        present: np.ndarray,
        uniform: np.ndarray,
        beta: float,
        num_accepted: int,
        copies: Copies | None = None,
    ) -> None:
        num_prompts, n = rewards.shape
        self._rewards, self._present, self._beta, self._copies = rewards, present, beta, copies
        self._wanted = np.minimum(num_accepted, present if copies is None else copies.num_texts)
        self.accepted = np.zeros((num_prompts, min(num_accepted, n)), np.int64)
        self.num_accepted, self.num_rounds, self.num_visits = np.zeros((3, num_prompts), np.int64)
        self._now = 0  # number of the step, the same for all rows
        self._gone = np.full((num_prompts, n), _NEVER, np.int32)  # the first step that does not visit them
        # Of the rows that still lack responses: their numbers v and the acceptance probabilities of the next
        # step; both are 0 for a candidate that has been accepted.
        self._rows, self._uniform = np.arange(num_prompts), uniform
        self._probabilities = acceptance_probabilities(rewards, beta)

    def run(self) -> None:
        """Visit until every row has what it can get."""
        with np.errstate(divide="ignore"):  # the surely accepted have 1 - p = 0; their v is not used again
            while len(self._rows):
                self._step()
                self._now += 1
        self._count()

    def _step(self) -> None:
        rejection = 1 - self._probabilities
        self._begin_step(rejection)
        hits = np.flatnonzero(rejection < self._uniform)
        self._uniform /= rejection
        self._record(hits)
        going = np.flatnonzero(self.num_accepted[self._rows] < self._wanted[self._rows])
        if len(going) < len(self._rows):
            self._keep(going)
        self._take_maximum()

    def _take_maximum(self) -> None:
        """Acceptance probabilities under the maximum of those that remain: their ratio to the highest."""
        top = highest(self._probabilities)
        faint = np.flatnonzero(top < _FAINT)
        if faint.size:
            left = np.where(self._uniform[faint] > 0, self._rewards[self._rows[faint]], -np.inf)
            self._probabilities[faint] = acceptance_probabilities(left, self._beta)
            top[faint] = 1
        self._probabilities /= top

    def _begin_step(self, rejection: np.ndarray) -> None:
        """Every step is a whole pass."""
        self.num_rounds[self._rows] += 1

    def _record(self, hits: np.ndarray) -> None:
        """Append the accepted, given as flat positions, and take them out."""
        rows, n = self._rows, self._probabilities.shape[1]
        hits = hits if self._copies is None else self._one_of_each_text(hits, self._copies.first)
        counts = np.bincount(hits // n, minlength=len(rows))
        before = self.num_accepted[rows]
        needed = np.minimum(counts, self._wanted[rows] - before)  # a pass stops at once when there are enough
        row = np.repeat(np.arange(len(rows)), needed)
        order = np.arange(len(row))
        skipped = needed.cumsum() - needed
        hits = hits[order + (counts.cumsum() - counts - skipped)[row]]
        slot = order + (rows * self.accepted.shape[1] + before - skipped)[row]
        self.accepted.reshape(-1)[slot] = hits - row * n
        self.num_accepted[rows] += needed
        self._take_out(hits, (rows[row] - row) * n)
        self._end_step()

    def _one_of_each_text(self, hits: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        """Of flat positions those that no copy precedes."""
        n = firsts.shape[1]
        row = hits // n
        text = row * n + firsts[self._rows[row], hits % n]
        return hits[np.sort(np.unique(text, return_index=True)[1])]

    def _take_out(self, hits: np.ndarray, offsets: np.ndarray) -> None:
        """Those at flat positions leave with all their copies, of which those behind them are not visited again.

        Args:
            hits: flat positions among the rows at work.
            offsets: what leads from there to the same candidates among all rows.
        """
        gone, spots = self._gone.reshape(-1), hits
        if self._copies is not None:
            n = self._gone.shape[1]
            following = self._copies.following.reshape(-1)
            spots = hits - hits % n + self._copies.first.reshape(-1)[hits + offsets]
        while len(spots):
            gone[spots + offsets] = self._now + (spots <= hits)
            self._uniform.reshape(-1)[spots] = 0
            self._probabilities.reshape(-1)[spots] = 0
            if self._copies is None:
                return
            after = spots - spots % n + following[spots + offsets]
            more = after > spots
            hits, offsets, spots = hits[more], offsets[more], after[more]

    def _end_step(self) -> None:
        """Nothing: whole passes can be counted at the end."""

    def _count(self) -> None:
        """Visits: of each candidate as many as passes until it left, in the last pass up to its last acceptance."""
        last = np.take_along_axis(self.accepted, self._wanted[:, None] - 1, axis=1)
        whole = self.num_rounds[:, None] - 1
        positions = np.arange(self._gone.shape[1])
        visits = np.minimum(self._gone, whole) + ((self._gone > whole) & (positions <= last))
        self.num_visits += np.where(positions < self._present[:, None], visits, 0).sum(axis=1)

    def _keep(self, going: np.ndarray) -> None:
        """Go on with these rows only."""
        self._rows = self._rows[going]
        self._uniform, self._probabilities = (
            a.take(going, axis=0) for a in (self._uniform, self._probabilities)
        )


class VisitsByAcceptance(Visits):
    """The variant of section 3.2: the maximum is taken anew after each acceptance.

    It can only change where a candidate that has it is accepted, which is sure when it is visited. So a step
    visits the candidates up to the next such one, and the next step goes on behind it in the same pass.
    """

    def run(self) -> None:
        """Visit until every row has what it can get."""
        self._begin = np.zeros_like(self._present)  # of the rows at work: where the step begins
        super().run()

    def _begin_step(self, rejection: np.ndarray) -> None:
        """Visit only up to the next candidate that is surely accepted, or to the end of the pass."""
        self.num_rounds[self._rows] += self._begin == 0
        positions = small_positions(rejection.shape[1])
        aside = positions < self._begin[:, None].astype(positions.dtype)
        sure = rejection == 0
        sure &= ~aside
        first = sure.argmax(axis=1)
        found = sure[np.arange(len(sure)), first]
        self._stop = np.where(found, first, self._present[self._rows] - 1)
        aside |= positions > self._stop[:, None].astype(positions.dtype)
        np.putmask(rejection, aside, 1)

    def _end_step(self) -> None:
        """Count the visits of a step, and go on behind it."""
        rows = self._rows
        full = self.num_accepted[rows] == self._wanted[rows]
        last = self.accepted[rows, self.num_accepted[rows] - 1]
        self._stop[full] = last[full]
        positions = small_positions(self._gone.shape[1])
        visited = positions >= self._begin[:, None].astype(positions.dtype)
        visited &= positions <= self._stop[:, None].astype(positions.dtype)
        self.num_visits[rows] += (visited & (self._gone[rows] > self._now)).sum(axis=1)
        self._begin = np.where(self._stop + 1 < self._present[rows], self._stop + 1, 0)

    def _count(self) -> None:
        """Nothing: every step has been counted."""

    def _keep(self, going: np.ndarray) -> None:
        super()._keep(going)
        self._begin = self._begin[going]


def acceptance_probabilities(rewards: np.ndarray, beta: float) -> np.ndarray:
    """exp((r - max)/beta) for the candidates of one pass; the maximum's own is exactly 1.

    At beta = 0, the limit: 1 for the candidates of maximal reward, 0 for the others, so that successive
    passes take the rewards in descending order, ties in the order of visits.

    Args:
        rewards: [p, n] float64; -inf, not in a whole row, has probability 0.
        beta: temperature, >= 0, in units of the reward.

    Returns:
        [p, n] float64 in [0, 1].
    """
    top = highest(rewards)
    if beta == 0:
        return (rewards == top).astype(np.float64)
    with np.errstate(over="ignore"):  # a gap beyond the range of floats is -inf, whose exponential is 0
        exponents = rewards - top
        exponents /= beta
    return np.exp(exponents, out=exponents)


def highest(values: np.ndarray) -> np.ndarray:
    """[p, 1] maximum of each row; by its index, which numpy finds several times faster in short rows."""
    return values[np.arange(len(values)), values.argmax(axis=1)][:, None]


def small_positions(n: int) -> np.ndarray:
    """0 .. n - 1 in the smallest type that holds n: several times faster to compare."""
    return np.arange(n, dtype=np.min_scalar_type(n))
