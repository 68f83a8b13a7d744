"""What the training and reference benchmarks share: the data in both forms, and TRL's trainer with a clock."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.arithmetic import computed_in
from rayflow.core.model_folder import load_tokenizer, resolve_model
from rayflow.training.groups import TrainingGroup

SHAPES = {"350x40": (350, 40), "128x64": (128, 64), "200x150": (200, 150)}
"""Name: tokens of the prompt, tokens of a response with its EOS."""
PAIRS_PER_PROMPT = 4


def tokens_per_prompt(shape: tuple[int, int], ratio: float) -> dict[str, Any]:
    """What each side must compute, and how much of the ratio between these was reached.

    Args:
        shape: tokens of a prompt and of a response.
        ratio: TRL's time over ours.
    """
    prompt, response = shape
    k = 2 * PAIRS_PER_PROMPT
    floor, pair_by_pair = prompt + k * response, k * (prompt + response)
    return {
        "tokens_per_prompt": {"floor": floor, "pair_by_pair": pair_by_pair},
        "ratio_at_the_floor": round(pair_by_pair / floor, 2),
        "reached_of_it": round(ratio * floor / pair_by_pair, 3),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes that both benchmarks take."""
    parser.add_argument("--model", default="~/.cache/rayflow/models/SmolLM2-135M-Instruct")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--prompts-per-step", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--trl-batches", type=int, nargs="+", default=[2, 4, 8], help="pairs at once, tried first"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


@dataclass(frozen=True)
class Workload:
    """The same prompts and pairs for both sides: 8 responses and 4 disjoint pairs per prompt.

    Attributes:
        texts: (prompt, 8 responses) per prompt, words that are one token each.
        groups: the same as token ids.
    """

    texts: list[tuple[str, list[str]]]
    groups: list[TrainingGroup]

    @classmethod
    def make(cls, model: str, shape: tuple[int, int], num_prompts: int) -> Workload:
        """Random words of the model's vocabulary in the given lengths."""
        tokenizer, rng = load_tokenizer(model), np.random.default_rng(0)
        words = [w for i in range(2000, 6000) if _is_word(w := tokenizer.decode([i]))]
        words = [w for w in words if len(tokenizer(w, add_special_tokens=False)["input_ids"]) == 1]

        def text(num: int) -> str:
            return "".join(rng.choice(words, num))

        texts = [
            (text(shape[0]), [text(shape[1] - 1) for _ in range(2 * PAIRS_PER_PROMPT)])
            for _ in range(num_prompts)
        ]
        return cls(texts, [_group(tokenizer, f"p{i}", *row) for i, row in enumerate(texts)])

    def trl_dataset(self) -> Any:
        """TRL's preference form, one row per pair."""
        from datasets import Dataset

        return Dataset.from_list(
            [
                {"prompt": prompt, "chosen": responses[2 * i], "rejected": responses[2 * i + 1]}
                for prompt, responses in self.texts
                for i in range(PAIRS_PER_PROMPT)
            ]
        )


def _is_word(text: str) -> bool:
    return text.startswith(" ") and text[1:].isalpha() and text[1:].islower()


def _group(tokenizer: Any, name: str, prompt: str, responses: list[str]) -> TrainingGroup:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    k = len(responses)
    return TrainingGroup(
        prompt_id=name,
        prompt_token_ids=np.array(ids(prompt), np.int32),
        response_token_ids=tuple(np.array([*ids(r), tokenizer.eos_token_id], np.int32) for r in responses),
        rewards=np.zeros(k),
        ref_logprobs=np.full(k, -100.0, np.float32),
        pairs=np.arange(k, dtype=np.int32).reshape(-1, 2),
    )


class TrlClock:
    """TRL's DPOTrainer on a workload: seconds of its reference pass and of its optimizer steps."""

    def __init__(self, model: str, workload: Workload, device: str, prompts_per_step: int) -> None:
        self.model, self.data = resolve_model(model), workload.trl_dataset()
        self.device, self.pairs_per_step = device, prompts_per_step * PAIRS_PER_PROMPT
        self.reference_seconds = 0.0

    def step_seconds(self, batch: int, steps: int) -> list[float]:
        """Seconds of each of `steps` optimizer steps after a first one that is not counted."""
        with tempfile.TemporaryDirectory() as scratch:
            trainer, marks = self._trainer(batch, steps + 1, Path(scratch))
            trainer.train()
        return list(np.diff(marks))

    def _trainer(self, batch: int, steps: int, folder: Path) -> tuple[Any, list[float]]:
        import torch
        from transformers import AutoModelForCausalLM, TrainerCallback
        from trl import DPOConfig, DPOTrainer

        clock, marks = self, []

        class Trainer(DPOTrainer):
            def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
                begin = time.monotonic()
                result = super()._precompute_ref_logps(*args, **kwargs)
                clock.reference_seconds = time.monotonic() - begin
                return result

        class Marks(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                marks.append(time.monotonic())

        config = DPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=self.pairs_per_step // batch,
            max_steps=steps,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            beta=0.05,
            precompute_ref_log_probs=True,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,  # the weights themselves are bfloat16, which is faster than autocast
            use_cpu=self.device == "cpu",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        dtype = computed_in(torch.bfloat16, self.device)
        loaded = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        trainer = Trainer(
            model=loaded,
            args=config,
            train_dataset=self.data,
            processing_class=load_tokenizer(self.model),
            callbacks=[Marks()],
        )
        return trainer, marks
