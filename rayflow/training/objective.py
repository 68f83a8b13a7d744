"""What a job trains: a policy, by its log-probabilities of the responses, or a reward model, by its scores.

Everything else of training, from the groups to the checkpoints, is the same for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rayflow.errors import StageError
from rayflow.training.layout import has_plain_head
from rayflow.training.logprobs import ResponseScorer
from rayflow.training.models import Attention, disable_dropout, load_model
from rayflow.training.scores import RewardScorer, load_reward_model

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob


def build_scorer(job: TrainJob) -> ResponseScorer | RewardScorer:
    """The module from a batch to one number per response, [m] float32, that the job's objective asks for.

    Ready for training: on the CPU, without dropout.

    Raises:
        ModelError: the model cannot be loaded, or does not fit the objective.
        StageError: the settings need a GPU, and there is none.
    """
    options = job.options
    if options.attention == "flex" and not torch.cuda.is_available():
        raise StageError("train.attention: flex needs a GPU, on which it is compiled. Set it to sdpa.")
    attention: Attention = "flex_attention" if options.attention == "flex" else "sdpa"
    scorer: ResponseScorer | RewardScorer
    if job.objective == "reward":
        scorer = RewardScorer(load_reward_model(job.model_path, options.precision, job.seed, attention))
    else:
        model = load_model(job.model_path, options.precision, attention)
        scorer = ResponseScorer(model, has_plain_head(model.config))
    disable_dropout(scorer.model)
    scorer.train()
    if options.gradient_checkpointing:
        scorer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return scorer
