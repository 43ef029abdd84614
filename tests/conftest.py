"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# No test depends on a clock: on a busy machine an example may take as long as it takes.
settings.register_profile("search", deadline=None)
# Nor on luck: what `make test` says of a commit is the same tomorrow. `make fuzz` looks for what is new.
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
