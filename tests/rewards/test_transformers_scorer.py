"""A classifier in transformers: what it pads with. Its values are those of `test_classifier` and `test_prompt_once`."""

from __future__ import annotations

import pytest

from rayflow.errors import RewardError
from rayflow.rewards.transformers_scorer import free_pad_id


def test_the_pad_id_occurs_in_no_text_of_the_batch():
    assert free_pad_id([[1, 2], [3]], (None, 7), 10) == 7
    assert free_pad_id([[0, 7], [1, 3]], (7, None), 10) == 2
    with pytest.raises(RewardError, match="every token of the vocabulary"):
        free_pad_id([[0, 1], [2]], (0,), 3)
