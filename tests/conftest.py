"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# no test depends on a clock: on a busy machine an example may take as long as it takes
settings.register_profile("ai-sidecar", deadline=None)
settings.load_profile("ai-sidecar")
