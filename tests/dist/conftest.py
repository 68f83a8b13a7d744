"""One Ray for the tests of this folder, with a home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="package")  # shut down before tests elsewhere that start a Ray of their own
def ray_cluster(ray_home: Path) -> Iterator[None]:
    """A local Ray with four logical CPUs; never touches another Ray of this machine."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(ray_home))
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        yield
        ray.shutdown()
