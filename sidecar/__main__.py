"""`python -m sidecar` is `ai-sidecar`."""

from .cli import main

main()
