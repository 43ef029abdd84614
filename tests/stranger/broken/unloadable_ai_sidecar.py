"""A module that cannot be imported: what it needs was never installed."""

raise ImportError("no module named whatever_it_needs")
