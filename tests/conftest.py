"""For every test: a private cache folder, a tiny random chat model that needs no network, and the tests' queues."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("rayflow", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("rayflow")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network
_CACHE = Path.home() / ".cache"
# DeepSpeed compiles its collectives once, although tests give Ray home folders of their own.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(_CACHE / "torch_extensions" / "tests"))
# These two would follow XDG_CACHE_HOME, and are worth keeping: vLLM looks into a model's class for a quarter minute.
os.environ.setdefault("HF_HOME", str(_CACHE / "huggingface"))
os.environ.setdefault("VLLM_CACHE_ROOT", str(_CACHE / "vllm"))

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = (
    "the film was a joy from start to finish",
    "a dull and lifeless story with wooden acting",
    "write a short review of the play",
    "user assistant system wonderful terrible great awful",
)


def pytest_configure(config: pytest.Config) -> None:
    """A private cache folder, before anything is imported that asks for it, and for every process of the tests.

    The user's would keep, for ever, the digests of models that lie in temporary folders.
    """
    folder = tempfile.mkdtemp(prefix="rayflow-cache-")
    os.environ["XDG_CACHE_HOME"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


_REAL = re.compile(r"\bray_home\b|\bray_cluster\b|\bmark\.(engine|trainer|cluster|slow|chaos)\b")
"""What a file with tests that start Ray or an engine holds."""


@functools.cache
def _queue(file: str) -> str:
    """The files that start Ray or an engine are one queue, any other file is one of its own."""
    return (
        "real" if _REAL.search(Path(__file__).parents[1].joinpath(file).read_text(encoding="utf-8")) else file
    )


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Real engines and clusters one after the other, and beside them everything else.

    Two of them at a time would be too much for two cores, and much of each is waiting for processes to start. xdist's
    own groups (3.8) are without effect under pytest 9.2, whose items no longer take another name.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Queues(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _queue(nodeid.partition("::")[0])

    return Queues(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest queue begins at once; in a single process, the quick tests do."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _queue(item.nodeid.partition("::")[0]) != "real")


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of every Ray of this session: a process reads its authentication token only once."""
    return tmp_path_factory.mktemp("ray-home")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random two-layer Llama in float32 with a byte-level BPE tokenizer and a chat template.

    EOS is <|im_end|>, distinct from PAD. The head size of 32 is one that vLLM's CPU attention accepts.
    """
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny_model(folder)
    return str(folder)


def build_tiny_model(folder: Path, seed: int = 0) -> None:
    """Write the model of `tiny_model` to `folder`; another `seed` gives other weights, the same tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=320,  # a round number above the tokenizer's size
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,  # peaked enough that log-probabilities differ between tokens
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_tokenizer():
    """Byte-level BPE over a few words, with BOS, EOS and PAD of their own and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        model_max_length=512,
    )
    fast.chat_template = _TEMPLATE
    return fast
