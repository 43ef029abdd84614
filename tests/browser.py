"""A real Chromium, Debian's, driven by playwright."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="there is no chromium on PATH, or no playwright (Debian: chromium)",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium without a window until the block ends."""
    from playwright.sync_api import sync_playwright

    # its sandbox needs a user of its own; a container's /dev/shm may be too small for it
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*options, "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()
