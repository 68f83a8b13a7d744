"""kill -9 between computing and promoting, at seeded moments: readers see the old version or the whole new one."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.refresh.conftest import DAYS, Nightly, copied

SEEDS = range(6)
BEFORE, AFTER = 20, 26


@pytest.fixture(scope="module")
def yesterday(first_night: Nightly, tmp_path_factory: pytest.TempPathFactory) -> Nightly:
    """A promoted version, and data that has changed since."""
    nightly = copied(first_night, tmp_path_factory.mktemp("yesterday"))
    nightly.write(range(4, AFTER + 4))
    return nightly


def refresh(nightly: Nightly, moment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.refresh.killed", str(nightly.path), DAYS[1], moment]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def undisturbed(yesterday: Nightly, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], int]:
    """What the day's rows are, and how many changes to files it takes to get there."""
    nightly = copied(yesterday, tmp_path_factory.mktemp("undisturbed"))
    done = refresh(nightly, "0")
    assert done.returncode == 0, done.stderr
    return nightly.rows(), int(done.stdout)


def moments() -> list[str]:
    """The write's very end, times within it, and places along the whole way (shares of all changes)."""
    times = [f"-{random.Random(seed).randrange(30_000)}" for seed in range(3)]
    return ["after-write", *times, *(f"share {seed}" for seed in SEEDS)]


@pytest.mark.parametrize("moment", moments())
def test_readers_see_the_old_version_or_the_whole_new_one_and_a_rerun_completes(
    moment: str, yesterday: Nightly, undisturbed: tuple[list[dict], int], tmp_path: Path
) -> None:
    wanted, num_changes = undisturbed
    nightly = copied(yesterday, tmp_path)
    if moment.startswith("share"):
        rng = random.Random(moment)
        moment = str(rng.randrange(1, num_changes + 1))
    assert refresh(nightly, moment).returncode == -9
    seen, old = nightly.rows(), yesterday.rows()
    assert seen in (old, wanted)
    if moment == "after-write" or moment.startswith("-"):
        assert seen == old
    assert nightly.run(DAYS[1]) == 0
    assert nightly.rows() == wanted and len({row["prompt_id"] for row in wanted}) == AFTER
    history = nightly.table._open().history()
    assert [e["operation"] for e in history].count("WRITE") == 2  # one a day: nothing was written twice
    assert len(nightly.root.records()) == 2 and nightly.root.day(DAYS[1]) == nightly.root.latest
    assert len(set(nightly.asked())) == 10  # only the new prompts were ever computed
    assert nightly.run(DAYS[1]) == 0 and "Done before" in nightly.said
