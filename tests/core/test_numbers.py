"""Numbers beyond float64."""

from __future__ import annotations

import math

import pytest

from rayflow.core.numbers import as_float


@pytest.mark.parametrize(
    ("given", "expected"), [(3, 3.0), (-0.5, -0.5), (10**400, math.inf), (-(10**400), -math.inf)]
)
def test_what_is_too_large_is_infinite(given: float, expected: float) -> None:
    assert as_float(given) == expected
