"""From the data to a trained policy by one command: the promoted version is what the policy learns from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.config import RunConfig
from rayflow.core.model_folder import load_tokenizer
from rayflow.errors import ArtifactError
from rayflow.pipeline.folders import stored_config
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.unread import unread_settings
from rayflow.refresh.train import train_config
from tests.pipeline.helpers import tables
from tests.refresh.conftest import DAYS, Nightly


def test_a_promoted_version_is_trained_on_and_a_second_call_finds_it_done(
    nightly: Nightly, tiny_model: str
) -> None:
    nightly.write(range(4))
    settings = (
        "refresh.train=true",
        f"model={tiny_model}",
        "sample.num_candidates=8",
        "train={batch_size: 2, precision: float32, learning_rate: 1.0e-3, num_epochs: 1}",
        "reference={precision: float32, source: sampler}",
    )
    assert nightly.run(DAYS[0], *settings) == 0
    run = nightly.root.root / "trained" / f"version-{nightly.root.latest}"
    (weights,) = run.glob("*-train/model/model.safetensors")
    assert weights.read_bytes() != (Path(tiny_model) / "model.safetensors").read_bytes()
    trained = json.loads((run / "summary.json").read_text())
    assert trained["training"]["last_step"] == 2  # four prompts, two a step: groups stay whole
    assert_only_what_ended_by_itself_has_an_eos(run, tiny_model)
    made = weights.stat().st_mtime_ns
    copies = nightly.root.root / "exports"
    assert list(copies.iterdir()) == []  # what the training has read is a version of the table
    nightly.asked()
    assert nightly.run(DAYS[0], *settings) == 0
    assert str(weights.parent) in nightly.said.replace("\n", "")
    assert weights.stat().st_mtime_ns == made and nightly.asked() == []
    # Another configuration of the same version is the run's to judge, from the same rows.
    with pytest.raises(ArtifactError, match="learning_rate"):
        nightly.run(DAYS[0], *settings, "train.learning_rate=0.002")
    assert [path.name for path in copies.iterdir()] == [f"groups-{nightly.root.latest}"]
    assert nightly.run(DAYS[0], *settings) == 0 and list(copies.iterdir()) == []


@pytest.mark.parametrize("held_out", [False, True])
def test_nothing_is_said_of_settings_that_are_the_refreshs(nightly: Nightly, held_out: bool) -> None:
    """Its responses were drawn by another policy, on part of a GPU, and scored, as all of a table's are."""
    evaluated = (f"prompts.evaluation.path={nightly.prompts}", "evaluate.num_samples=2")
    config = nightly.config(
        "refresh.train=true", "sample.model=other", "compute.sample.num_gpus=0.5", *evaluated[: 2 * held_out]
    )
    run = train_config(config, nightly.root, version=1)
    assert unread_settings(run) == []
    assert (run.sample.num_candidates, run.compute.sample.num_gpus) == ((16, 0.5) if held_out else (64, 0))


def test_the_training_of_another_plan_is_not_taken_for_this_ones(nightly: Nightly, tiny_model: str) -> None:
    """With `train.choose` a training has stages before it that it had not: an older one stays in its folder."""
    nightly.write(range(2))
    small = ("train={batch_size: 2, precision: float32, num_epochs: 1}", "reference.precision=float32")
    settings = ("refresh.train=true", f"model={tiny_model}", "sample.num_candidates=8", *small)
    assert nightly.run(DAYS[0], *settings) == 0, nightly.said
    run = nightly.root.root / "trained" / f"version-{nightly.root.latest}"
    (trained,) = run.glob("*-train")
    trained.rename(trained.with_name("99-train"))
    assert nightly.run(DAYS[0], *settings) == 0
    assert str(trained / "model") in nightly.said.replace("\n", "") and (trained / "manifest.json").exists()


def assert_only_what_ended_by_itself_has_an_eos(run: Path, model: str) -> None:
    """The sampler cut some responses; the policy that wrote them emitted no end there."""
    stored = tables(build_run_plan(stored_config(run, RunConfig)))
    eos = load_tokenizer(model).eos_token_id
    reasons = [reason for row in stored["prompts"] for reason in row["finish_reasons"]]
    ended = [ids[-1] == eos for row in stored["encode"] for ids in row["token_ids"]]
    assert ended == [reason == "stop" for reason in reasons] and set(reasons) == {"stop", "length"}


@pytest.mark.parametrize(
    "settings",
    [
        ("select={kind: top_k, num_accepted: 1}", "pair=none", "train.loss={kind: cross_entropy}"),
        ("pair={kind: tournament}", "train.loss={kind: slic, y_ref: target, regularization: 0.1}"),
    ],
    ids=["RAFT", "SLiC with targets"],
)
def test_other_methods_train_on_what_they_read(nightly: Nightly, tiny_model: str, settings: tuple) -> None:
    nightly.write(range(4), target="A good answer.")
    small = (
        "refresh.train=true",
        f"model={tiny_model}",
        "sample.num_candidates=8",
        "train={batch_size: 2, precision: float32, learning_rate: 1.0e-3, num_epochs: 1}",
        "reference={precision: float32}",
    )
    assert nightly.run(DAYS[0], *small, *settings) == 0, nightly.said
    run = nightly.root.root / "trained" / f"version-{nightly.root.latest}"
    assert json.loads((run / "summary.json").read_text())["training"]["last_step"] == 2


def test_the_copy_of_a_version_goes_with_the_version_when_its_training_was_never_finished(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_one = ("refresh.retention={versions: 1, days: 0, grace_hours: 0}", "sample.num_candidates=8")
    with monkeypatch.context() as patch:
        patch.setattr("rayflow.pipeline.commands.run", lambda *_: (_ for _ in ()).throw(OSError("no GPU")))
        with pytest.raises(OSError):
            nightly.run(DAYS[0], "refresh.train=true", *keep_one)
    copies = nightly.root.root / "exports"
    (copies / f".groups-{nightly.root.latest}.12345678").mkdir()  # of a call that was killed
    assert len(list(copies.iterdir())) == 2
    nightly.write(range(2, 22))
    assert nightly.run(DAYS[1], *keep_one) == 0
    assert nightly.root.records()[0].removed is not None
    assert list(copies.iterdir()) == []
