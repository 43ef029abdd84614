"""What holds for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from sidecar import batch

# No test depends on a clock: on a busy machine an example may take as long as it takes.
settings.register_profile("search", deadline=None)
# Nor on luck: what `make test` says of a commit is the same tomorrow. `make fuzz` looks for what is new.
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True, scope="session")
def _few_lines_are_enough_to_be_counted_at_once() -> None:
    """A loop is written for a shape when it is known: what tests hold against the general path are short texts."""
    batch.LINES_BEFORE_WRITTEN = 0
