"""TRL's own DPO trainer as an oracle, on two tiny models. Skipped where TRL is not installed.

TRL's names are not this project's: its `sigmoid` is `sigmoid_norm` here, its `hinge` is `hinge_norm` here, and
its `sigmoid_norm` is a third loss, normalised by the length.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rayflow.losses.base import LossInputs
from rayflow.training.reference import ReferenceScorer
from tests.conftest import build_tiny_model
from tests.losses.helpers import inputs, make

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

GAMMA = 0.05
PAIR = {"prompt": "write a review", "chosen": " a joy from start to finish", "rejected": " dull"}


def length_normalized_dpo(pair: LossInputs) -> float:
    """What TRL calls sigmoid_norm: DPO on the log-ratio per token."""
    chosen, rejected = ((pair.logprobs - pair.ref_logprobs) / pair.num_tokens).tolist()
    return math.log1p(math.exp(-GAMMA * (chosen - rejected)))


@pytest.fixture(scope="module")
def evaluated(tiny_model, tmp_path_factory):
    """A function of TRL's loss type: the loss its trainer reports for the pair, and the pair as a loss sees it.

    The log-probabilities are this project's own, of the tokens that TRL trains on, so the whole chain is compared.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("trl")
    policy, reference = Path(tiny_model), folder / "reference"
    build_tiny_model(reference, seed=1)

    def run(loss_type: str) -> tuple[float, LossInputs]:
        data = datasets.Dataset.from_list([PAIR])
        trainer = trl.DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy),
            ref_model=AutoModelForCausalLM.from_pretrained(reference),
            args=trl.DPOConfig(
                str(folder / "out"), loss_type=loss_type, beta=GAMMA, use_cpu=True, bf16=False, report_to=[]
            ),
            train_dataset=data,
            eval_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(policy),
        )
        row = trainer.eval_dataset[0]
        responses = [np.array(row["chosen_ids"]), np.array(row["rejected_ids"])]
        logprobs, ref_logprobs = (
            scored(model, np.array(row["prompt_ids"]), responses) for model in (policy, reference)
        )
        pair = inputs(logprobs, ref_logprobs, num_tokens=[len(response) for response in responses])
        return trainer.evaluate()["eval_loss"], pair

    return run


def scored(model: Path, prompt: np.ndarray, responses: list[np.ndarray]) -> np.ndarray:
    scorer = ReferenceScorer(str(model), "float32")
    scorer.setup()
    return scorer.score([(prompt, responses)])[0]


@pytest.mark.parametrize(("theirs", "ours"), [("sigmoid", "sigmoid_norm"), ("hinge", "hinge_norm")])
def test_trl_computes_the_same_loss_under_its_own_name(evaluated, theirs, ours):
    loss, pair = evaluated(theirs)
    assert make(ours, gamma=GAMMA)(pair).item() == pytest.approx(loss, abs=1e-5)


def test_trls_sft_is_the_mean_over_the_chosen_responses_tokens(evaluated):
    loss, pair = evaluated("sft")
    chosen, _ = make("cross_entropy", length_normalized=True)(pair).tolist()
    assert chosen == pytest.approx(loss, abs=1e-5)


def test_what_trl_calls_sigmoid_norm_is_another_loss(evaluated):
    loss, pair = evaluated("sigmoid_norm")
    assert length_normalized_dpo(pair) == pytest.approx(loss, abs=1e-5)
    assert make("sigmoid_norm", gamma=GAMMA)(pair).item() != pytest.approx(loss, abs=1e-2)
    # On the worked example of the other tests it is .689591, where `sigmoid_norm` is .661175.
    worked = inputs([-12.0, -14.0], [-12.5, -13.2], num_tokens=[8, 10])
    assert length_normalized_dpo(worked) == pytest.approx(0.689591, abs=1e-6)
