"""Workers that ask for less than a core: they compute on all idle cores of a small machine, behind the others.

On a laptop a sampler has every core busy. A scorer with a thread of its own would take one from it half of the
time, for which the sampler's other threads wait as well, and would be alone on one core when the sampler is done.
"""

from __future__ import annotations

import os
import sys

from rayflow.config.blocks import PoolOptions
from rayflow.core.cores import cores_to_share


def belongs_behind(pool: PoolOptions) -> bool:
    """Whether the workers of a pool leave the cores to others first."""
    small = pool.num_cpus < 1 and not pool.num_gpus
    return small and hasattr(os, "SCHED_IDLE") and bool(cores_to_share())


def step_behind() -> None:
    """The calling thread, and those that it starts from now on, run where nobody else wants the core.

    torch, if it is loaded, then computes on all of them: Ray allows an actor of its size one thread. Nothing is
    done where the machine does not let a process choose.
    """
    if os.sched_getscheduler(0) == os.SCHED_IDLE:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        return
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() == 1:
        torch.set_num_threads(len(cores_to_share()))
