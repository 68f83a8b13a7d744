"""The cores of a small machine, which all of a run's workers share."""

from __future__ import annotations

import os

_SMALL_MACHINE = 8
"""Up to this many cores one kept free costs too much; beyond, there are cores for everybody."""


def cores_to_share() -> list[int]:
    """Numbers of the cores that this process may use, if they are few; none on a larger machine or outside Linux."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if len(cores) <= _SMALL_MACHINE else []
