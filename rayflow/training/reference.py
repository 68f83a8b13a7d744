"""Log-probabilities under the frozen reference (SFT) policy, each prompt computed once for its responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayflow.errors import StageError
from rayflow.training.layout import Layout, has_plain_head, lengths_of
from rayflow.training.pack import Branches, pack


class ReferenceScorer:
    """Scores responses under a frozen model. Built anywhere (cheap); the model loads in `setup`.

    Args:
        model: local folder or hub id; safetensors only.
        precision: "bfloat16" or "float32". Use the training precision, so that the policy starts at the
            reference.
        micro_batch_tokens: padded tokens of one forward pass; longer groups are split by response.
        share_prompt: as in `TrainOptions`.
    """

    def __init__(
        self,
        model: str,
        precision: str = "bfloat16",
        micro_batch_tokens: int = 4096,
        share_prompt: str | bool = "auto",
    ) -> None:
        self.model_name = model
        self.precision = precision
        self.micro_batch_tokens = micro_batch_tokens
        self.share_prompt = share_prompt

    def setup(self) -> None:
        """Load the model, to the GPU where there is one.

        Raises:
            ModelError: the model cannot be loaded.
        """
        import torch

        from rayflow.training.logprobs import ResponseScorer
        from rayflow.training.models import load_model

        model = load_model(self.model_name, self.precision)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config = model.config
        self._scorer = (
            ResponseScorer(model, has_plain_head(model.config)).to(self.device).eval().requires_grad_(False)
        )

    def score(self, groups: Sequence[Branches]) -> list[np.ndarray]:
        """Reference log-probabilities of every group's responses, in the given order.

        Args:
            groups: (prompt_token_ids [P] int32, k >= 0 arrays response_token_ids [R_i] int32) for each prompt.

        Returns:
            One array [k] float32 per group: summed nats, EOS included where it is among the tokens.

        Raises:
            DataError: a group is longer than the model's context.
            StageError: a log-probability is not finite.
        """
        results = [np.zeros(len(responses), np.float32) for _, responses in groups]
        asked = [index for index, (_, responses) in enumerate(groups) if responses]  # a tie leaves no pair
        layout = Layout.choose(self.config, lengths_of([groups[i] for i in asked]), self.share_prompt)
        for batch in layout.micro_batches(range(len(asked)), self.micro_batch_tokens):
            found = self._forward(batch.branches(lambda i: groups[asked[i]]), layout.shared)
            for index, values in zip(batch.groups, found, strict=True):
                results[asked[index]][slice(None) if batch.part is None else list(batch.part)] = values
        return results

    def _forward(self, groups: list[Branches], shared: bool) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            values = self._scorer(pack(groups, shared=shared).to(self.device)).float().cpu().numpy()
        if not np.isfinite(values).all():
            raise StageError(
                f"The reference model '{self.model_name}' gave a log-probability that is not finite. "
                "Are its weights whole, and is its precision right?"
            )
        return np.split(values, np.cumsum([len(responses) for _, responses in groups])[:-1])
