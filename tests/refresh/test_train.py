"""From the data to a trained policy by one command: the promoted version is what the policy learns from."""

from __future__ import annotations

import json
from pathlib import Path

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
    made = weights.stat().st_mtime_ns
    nightly.asked()
    assert nightly.run(DAYS[0], *settings) == 0
    assert str(weights.parent) in nightly.said.replace("\n", "")
    assert weights.stat().st_mtime_ns == made and nightly.asked() == []
