"""Keeping freed memory: it changes page faults, and only where the user has not tuned the allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import os, resource, sys
{setup}
def work():
    block = bytearray(1 << 26)  # a block of 64 MiB that glibc would map and unmap
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setup: str, **environment: str) -> int:
    code = _FAULTS.format(setup=setup)
    env = {"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return int(done.stdout)


IN_PROCESS = "from rayflow.core.memory import keep_freed_memory; keep_freed_memory()"
IN_CHILDREN = (
    "from rayflow.core.memory import keep_freed_memory_in_children\n"
    "if 'CHILD' not in os.environ:\n"
    "    keep_freed_memory_in_children(); os.environ['CHILD'] = '1'; os.execv(sys.executable, sys.orig_argv)"
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("setup", [IN_PROCESS, IN_CHILDREN])
def test_blocks_are_not_faulted_in_again(setup):
    assert faults(setup) < faults("") / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_the_user_has_tuned_stays():
    tuned = {"MALLOC_MMAP_MAX_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
    assert faults(IN_PROCESS, **tuned) > 20
