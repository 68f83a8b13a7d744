"""The checkpoint with the best proxy win rate: it is the one that stays, restarts or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rayflow.errors import DataError
from rayflow.training.checkpoints import FolderStore
from rayflow.training.choice import Chooser
from rayflow.training.loop import TrainJob, train
from rayflow.training.metrics import read_metrics
from rayflow.training.options import ChoiceOptions
from rayflow.training.plain import PlainBackend
from tests.training.helpers import small_job, write_random_groups

STEPS = 6


@dataclasses.dataclass
class Verdicts:
    """A judge that knows the win rate of every step, of ten prompts, and keeps a copy of each model's weights."""

    rates: dict[int, float]
    copies: Path
    counted: dict[int, int] = dataclasses.field(default_factory=dict)
    """Where not all ten have a win share."""
    max_failed_fraction: float = 0.2

    def __call__(self, model_dir: Path, rank: int, world_size: int) -> tuple[float, int, int]:
        assert (rank, world_size) == (0, 1)
        step = int(model_dir.name.removeprefix("step-"))
        self.copies.mkdir(exist_ok=True)
        (self.copies / str(step)).write_bytes((model_dir / "model.safetensors").read_bytes())
        counted = self.counted.get(step, 10)
        return counted * self.rates[step], counted, 10


@pytest.fixture(scope="module")
def groups(tiny_model, tmp_path_factory):
    return write_random_groups(tmp_path_factory.mktemp("groups") / "groups.arrow", tiny_model)


@pytest.fixture
def make_job(tiny_model, groups, tmp_path):
    def make(rates: dict[int, float], **choice: int) -> TrainJob:
        choose = ChoiceOptions(**{"every_steps": 2, **choice})
        job = small_job(tiny_model, groups, tmp_path / "out", choose=choose)
        return dataclasses.replace(job, judge=Verdicts(rates, tmp_path / "copies"))

    return make


def run(job: TrainJob) -> list[dict[str, float]]:
    train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", keep=2))
    return read_metrics(job.metrics_path)


def kept_step(job: TrainJob) -> str:
    weights = (job.model_dir / "model.safetensors").read_bytes()
    (step,) = [path.name for path in job.judge.copies.iterdir() if path.read_bytes() == weights]
    return step


def test_the_best_model_is_kept_and_the_others_are_gone(make_job):
    job = make_job({2: 0.6, 4: 0.75, 6: 0.7})
    lines = run(job)
    assert kept_step(job) == "4"
    assert [line.get("eval/win_rate") for line in lines] == [None, 0.6, None, 0.75, None, 0.7]
    assert not (job.output_dir / "candidates").exists()


def test_of_equal_models_the_earlier_is_kept(make_job):
    job = make_job({2: 0.6, 4: 0.6, 6: 0.5})
    run(job)
    assert kept_step(job) == "2"


def test_the_last_step_is_evaluated_even_off_the_beat(make_job):
    job = make_job({4: 0.5, 6: 0.9}, every_steps=4)
    run(job)
    assert kept_step(job) == "6"


def test_training_stops_when_nothing_better_comes(make_job):
    job = make_job({2: 0.7, 4: 0.6, 6: 0.9}, patience=1)
    lines = run(job)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert kept_step(job) == "2"


def test_models_that_were_beaten_go_before_the_end(make_job, monkeypatch):
    job = make_job({step: step / 10 for step in range(1, STEPS + 1)}, every_steps=1)
    kept = []
    real = Verdicts.__call__

    def looks(judge: Verdicts, model_dir: Path, rank: int, world_size: int) -> tuple[float, int, int]:
        kept.append(sorted(int(path.name[5:]) for path in model_dir.parent.iterdir()))
        return real(judge, model_dir, rank, world_size)

    monkeypatch.setattr(Verdicts, "__call__", looks)
    run(job)
    # Beside the new one, the best as of checkpoints 2 and 4, which are kept, and of the evaluation before.
    assert kept[-1] == [2, 4, 5, 6]
    assert kept_step(job) == "6"


def test_a_win_rate_over_a_few_of_the_prompts_chooses_nothing(make_job):
    job = make_job({2: 0.6, 4: 1.0, 6: 0.55}, patience=2)
    job.judge.counted |= {4: 5, 6: 8}
    lines = run(job)
    assert kept_step(job) == "2"
    assert [line.get("eval/win_rate") for line in lines] == [None, 0.6, None, None, None, 0.55]
    assert [line.get("eval/num_prompts") for line in lines] == [None, 10, None, 5, None, 8]


def test_a_restart_knows_which_evaluations_had_too_few_prompts(make_job):
    job = make_job({2: 0.6, 4: 1.0, 6: 0.55})
    job.judge.counted |= {4: 5}
    run(job)
    run(job)
    assert kept_step(job) == "2"


def test_where_no_checkpoint_has_enough_prompts_none_is_chosen(make_job):
    job = make_job({2: 0.6, 4: 1.0, 6: 0.55})
    job.judge.counted |= {2: 7, 4: 7, 6: 7}
    with pytest.raises(DataError, match="No checkpoint can be chosen.*max_failed_fraction=0.2"):
        run(job)
    assert not job.model_dir.exists()


def test_a_restart_goes_on_with_the_evaluations_that_it_has(make_job, monkeypatch):
    job = make_job({2: 0.8, 4: 0.7, 6: 0.6})
    real, calls = PlainBackend.step, []

    def dies_in_step_five(self, rate):
        calls.append(rate)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, rate)

    monkeypatch.setattr(PlainBackend, "step", dies_in_step_five)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    monkeypatch.setattr(PlainBackend, "step", real)
    lines = run(job)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert kept_step(job) == "2"


@pytest.mark.parametrize("rates", [{2: 0.6, 4: 0.75, 6: 0.7}, {2: 0.8, 4: 0.7, 6: 0.6}])
@pytest.mark.parametrize("cleared", [True, False])
def test_a_restart_after_the_best_has_taken_its_place_leaves_it_there(make_job, monkeypatch, rates, cleared):
    """Killed before the stage is committed, with or without the other candidates still there."""
    job = make_job(rates)
    if not cleared:
        monkeypatch.setattr("rayflow.training.choice.shutil.rmtree", lambda *_, **__: None)
    run(job)
    monkeypatch.undo()
    first = kept_step(job)
    run(job)
    assert kept_step(job) == first == str(max(rates, key=rates.get))
    assert not (job.output_dir / "candidates").exists()


def test_a_fresh_chooser_may_keep_the_best_again(make_job):
    job = make_job({2: 0.6, 4: 0.75, 6: 0.7})
    run(job)
    backend = PlainBackend()
    for _ in range(2):
        Chooser(job, backend, first_step=STEPS).keep_best()
        assert kept_step(job) == "4"


def test_no_verdict_at_all_is_an_error(make_job, monkeypatch):
    job = make_job({2: 0.0})
    monkeypatch.setattr(Verdicts, "__call__", lambda *_: (0.0, 0, 10))
    with pytest.raises(DataError, match="No validation prompt"):
        run(job)
