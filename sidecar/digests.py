"""Short proofs of bytes: the hashes that are part of the interpreter, without those of OpenSSL.

`hashlib` loads all of OpenSSL, which is a tenth of what a small sidecar holds; `random` of the standard library
passes it by in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def _of(name: str, *modules: str) -> Callable[..., Any]:
    """Find a hash in the first of these modules that is there; each Python has them in others."""
    for module in modules:
        try:
            found: Callable[..., Any] = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
        return found
    return _of(name, "hashlib")


blake2b = _of("blake2b", "_blake2")
sha256 = _of("sha256", "_sha2", "_sha256")
