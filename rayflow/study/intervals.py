"""How sure a mean over seeds and prompts is. In: win shares [seeds, prompts]. Out: an `Estimate`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rayflow.core.stats import t_quantile, t_tails


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and prompts with its 95% interval.

    Attributes:
        mean, low, high: the interval is mean -+ t * error.
        error: standard error; 0 where all values are equal.
        freedom: degrees of freedom of t.
    """

    mean: float
    low: float
    high: float
    error: float
    freedom: float

    def within(self, low: float, high: float) -> Estimate:
        """The same with its ends cut to the range that the quantity has."""
        return Estimate(self.mean, max(low, self.low), min(high, self.high), self.error, self.freedom)

    @property
    def p_value(self) -> float:
        """Two-sided, that the true mean is 0; 1 where nothing varies, which a few items prove nothing by."""
        return t_tails(abs(self.mean) / self.error, self.freedom) if self.error else 1.0


def interval(shares: np.ndarray) -> Estimate:
    """Mean with an interval that covers both another choice of prompts and another draw of seeds.

    The variance is that of the prompts' means over seeds, divided by the prompts (what a bootstrap over prompts
    estimates), plus that of the seeds' means over prompts, divided by the seeds. What varies with prompt and
    seed together is in both, so the interval errs on the wide side. One prompt, or one seed, tells nothing of
    its part, which is then left out.

    Args:
        shares: [s, p] float64, s >= 1, p >= 1.

    Source:
        Satterthwaite, An approximate distribution of estimates of variance components, Biometrics 2 (1946).
    """
    sizes = shares.shape[1], shares.shape[0]
    means = shares.mean(axis=0), shares.mean(axis=1)
    known = [(m.var(ddof=1) / n, n - 1) for m, n in zip(means, sizes, strict=True) if n > 1]
    variance = sum(part for part, _ in known)
    mean = float(shares.mean())
    if not variance > 1e-24:  # rounding of equal values
        return Estimate(mean, mean, mean, 0.0, 1.0)
    freedom = float(variance**2 / sum(part**2 / each for part, each in known))
    error = math.sqrt(variance)
    half = t_quantile(freedom) * error
    return Estimate(mean, mean - half, mean + half, error, freedom)
