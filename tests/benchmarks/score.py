"""Scoring a prompt's candidates with the classifier reward against transformers' padded batches, sorted by length.

A random classifier in bfloat16, each side with its own copy in one process, the same threads and texts. Both
tokenise; transformers has the best of a few batch sizes. The sides take turns, each time with another prompt.
With `--vllm` the same reward in vLLM's pooling runner is a third side, in a process of its own. With `--family
mistral` transformers reads every text whole in the reward, too, which is where `backend: auto` takes vLLM.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.rewards.classifier import ClassifierReward
from rayflow.rewards.models import load_weights
from tests.benchmarks.paired import compared

TARGET = 5.0
SIZES = {
    "135m": {  # SmolLM2-135M
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "1b": {  # Llama-3.2-1B
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
WORDS = [f"w{i}" for i in range(4000)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the comparison."""
    parser.add_argument("--size", choices=SIZES, default="135m")
    parser.add_argument("--family", choices=("llama", "mistral"), default="llama")
    parser.add_argument("--vllm", action="store_true", help="measure backend: vllm as a third side")
    parser.add_argument("--prompt-tokens", type=int, default=350)
    parser.add_argument("--response-tokens", type=int, default=40)
    parser.add_argument(
        "--spread", type=float, default=0.0, help="lengths vary by this share around the mean"
    )
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=1, help="prompts in each repeat")
    parser.add_argument("--padded-batches", type=int, nargs="+", default=[2, 8, 16, 64], help="tried first")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of candidates per second of both sides, the ratio, and the tokens that each computes."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(Path(folder), SIZES[arguments.size], arguments.family)
        options = ClassifierReward.Config(model=folder, backend="transformers", device=arguments.device)
        reward = build("reward", options)
        reward.setup()
        padded = Padded(folder, arguments.device)
        in_vllm = build("reward", ClassifierReward.Config(model=folder, backend="vllm"))
        if arguments.vllm:
            in_vllm.setup()
    counts = {"rayflow": Tokens(reward._scorer.model), "padded": Tokens(padded.model)}
    warm = group(arguments, rng)
    reward.score(*warm)
    if arguments.vllm:
        in_vllm.score(*warm)
    best = min(arguments.padded_batches, key=lambda batch: timed(padded.score, [warm], batch)[0])
    seconds: dict[str, list[float]] = {"rayflow": [], "padded": []}
    for count in counts.values():
        count.total = 0
    for repeat in range(arguments.repeats):
        groups = [group(arguments, rng) for _ in range(arguments.prompts)]
        ours, found = timed(reward.score, groups)
        theirs, expected = timed(padded.score, groups, best)
        seconds["rayflow"].append(ours)
        seconds["padded"].append(theirs)
        if arguments.vllm:
            spent, _ = timed(in_vllm.score, groups)
            seconds.setdefault("vllm", []).append(spent)
            print(f"repeat {repeat}: vllm {spent:.2f} s", file=sys.stderr)
        apart = max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))
        print(f"repeat {repeat}: {ours:.2f} s, padded {theirs:.2f} s, apart {apart:.3f}", file=sys.stderr)
    in_vllm.close()
    return _summary(arguments, seconds, best, {side: count.total for side, count in counts.items()})


def _summary(
    arguments: argparse.Namespace, seconds: dict[str, list[float]], best: int, computed: dict[str, int]
) -> dict[str, Any]:
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    candidates = arguments.prompts * arguments.candidates
    num_groups = arguments.repeats * arguments.prompts
    tokens = {side: total / num_groups for side, total in computed.items()}
    floor = arguments.prompt_tokens + arguments.candidates * arguments.response_tokens
    found = compared(seconds["padded"], seconds["rayflow"])
    return {
        "family": arguments.family,
        "size": arguments.size,
        "shape": f"{arguments.prompt_tokens}x{arguments.response_tokens}",
        "device": arguments.device,
        "rayflow_candidates_per_s": round(candidates / medians["rayflow"], 2),
        "padded_candidates_per_s": round(candidates / medians["padded"], 2),
        **({"vllm_candidates_per_s": round(candidates / medians["vllm"], 2)} if "vllm" in medians else {}),
        "padded_batch": best,
        **found,
        "target": TARGET,
        "tokens_per_prompt": {"floor": floor, **{side: round(value) for side, value in tokens.items()}},
        "ratio_at_the_floor": round(tokens["padded"] / floor, 2),
        "reached_of_it": round(found["ratio"] * floor / tokens["padded"], 3),
    }


def timed(score: Any, groups: list[tuple[Prompt, list[str]]], *settings: int) -> tuple[float, list[Any]]:
    """Seconds and scores of some groups."""
    begin = time.monotonic()
    found = [score(prompt, responses, *settings) for prompt, responses in groups]
    return time.monotonic() - begin, found


class Tokens:
    """Counts the tokens, padding included, that a model computes."""

    def __init__(self, model: Any) -> None:
        self.total = 0
        model.get_input_embeddings().register_forward_hook(self._add)

    def _add(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.total += inputs[0].numel()


class Padded:
    """What one would write with transformers: batches of whole texts of similar length."""

    def __init__(self, folder: str, device: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = load_weights(AutoModelForSequenceClassification, folder, "auto", device)

    def score(self, prompt: Prompt, responses: list[str], batch: int) -> np.ndarray:
        """[n] float64 from batches of `batch` texts."""
        import torch

        ids = self.tokenizer([f"{prompt.prompt}{response}" for response in responses])["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = np.empty(len(ids))
        with torch.inference_mode():
            for begin in range(0, len(order), batch):
                chosen = order[begin : begin + batch]
                inputs = self.tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt")
                logits = self.model(**inputs.to(self.model.device)).logits[:, 0]
                found[chosen] = logits.double().cpu().numpy()
        return found


def group(arguments: argparse.Namespace, rng: np.random.Generator) -> tuple[Prompt, list[str]]:
    """A prompt of random words and its candidates; their lengths add up to the mean times their number."""
    mean, num = arguments.response_tokens, arguments.candidates
    away = rng.integers(0, int(mean * arguments.spread) + 1, num // 2)
    lengths = [*(mean - away), *(mean + away), *[mean] * (num % 2)]
    text = " ".join(rng.choice(WORDS, arguments.prompt_tokens))
    responses = ["".join(f" {word}" for word in rng.choice(WORDS, n)) for n in lengths]
    return Prompt(prompt_id="p", prompt=text, messages=(), target=None), responses


def save_classifier(folder: Path, sizes: dict[str, int], family: str = "llama") -> None:
    """A random decoder with one label, in bfloat16, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    config = AutoConfig.for_model(family, max_position_embeddings=8192, num_labels=1, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder)
