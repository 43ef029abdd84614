"""The demo shows the main job at work: live figures of four formats, and an end by itself."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_shows_figures_of_four_formats_and_ends_by_itself() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "sidecar", "demo", "--port", "0", "--seconds", "6", "--rate", "50"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 0, result.stderr
    assert "open http://127.0.0.1:" in result.stdout
    for model in ("gemini-2.5-flash", "gpt-4.1", "claude-sonnet-4-20250514", "gpt-4o"):
        assert model in result.stdout
    assert "understood by: generic" in result.stdout
    assert "litellm" in result.stdout
