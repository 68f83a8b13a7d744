"""Errors travel from workers to the driver by their name and their text."""

from __future__ import annotations

import pickle

import pytest

from rayflow import errors
from rayflow.errors import MissingPackageError, RayflowError

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RayflowError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_can_be_made_of_its_text_and_pickled(kind):
    for error in (kind("said"), pickle.loads(pickle.dumps(kind("said")))):
        assert type(error) is kind and str(error) == "said"


def test_a_missing_package_names_the_command_that_installs_it():
    error = MissingPackageError.of("vllm", "The vllm engine", "gpu")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "pip install 'rayflow[gpu]'" in str(error)
