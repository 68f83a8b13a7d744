"""Workers that ask for less than a core: they compute on all idle cores of a small machine, behind the others.

On a laptop a sampler has every core busy. A scorer with a thread of its own would take one from it half of the
time, for which the sampler's other threads wait as well, and would be alone on one core when the sampler is done.
"""

from __future__ import annotations

import os

from rayflow.config.blocks import PoolOptions

SMALL_MACHINE = 8
"""Up to this many cores; on a larger one there are cores for everybody."""


def in_background(pool: PoolOptions) -> bool:
    """Whether the workers of a pool run behind the others; where they do, before torch is imported, on all cores."""
    if pool.num_cpus >= 1 or pool.num_gpus or not hasattr(os, "SCHED_IDLE"):
        return False
    cores = len(os.sched_getaffinity(0))
    if cores > SMALL_MACHINE:
        return False
    os.environ["OMP_NUM_THREADS"] = str(cores)  # Ray has set it to 1
    return True


def yield_to_others() -> None:
    """The calling thread, and those that it starts from now on, run when nobody else wants the core."""
    if os.sched_getscheduler(0) != os.SCHED_IDLE:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
