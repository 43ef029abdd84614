"""Expressions that several panels ask, narrowed by what the viewer has chosen."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 'job=~"$job", namespace=~"$namespace", pod=~"$pod"'
"""Matches what Prometheus adds; where there is no pod, `.*` matches that too."""


def of_sidecar(metric: str, *matchers: str) -> str:
    """Select what a sidecar tells of itself."""
    return f"{metric}{{{', '.join((TARGET, *matchers))}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The series of one schema: its names for the chosen labels, and the counter of its requests."""

    provider: str = "provider"
    model: str = "model"
    extra_labels: tuple[str, ...] = ()
    """Labels of `--label`, each with a variable of its own name."""
    requests: str = "ai_api_requests_total"

    def of(self, metric: str, *matchers: str) -> str:
        """Select the chosen series of a metric."""
        chosen = [f'{self.provider}=~"$provider"', f'{self.model}=~"$model"']
        chosen += [f'{label}=~"${label}"' for label in self.extra_labels]
        return f"{metric}{{{', '.join((TARGET, *chosen, *matchers))}}}"

    def total(self, function: str, counter: str, window: str, by: str = "", *matchers: str) -> str:
        """Give the sum of a counter's `rate` or `increase` over all its labels but `by`."""
        grouping = f" by ({by}) " if by else ""
        return f"sum{grouping}({function}({self.of(counter, *matchers)}[{window}]))"

    def increase(self, counter: str, by: str = "", *matchers: str) -> str:
        """Give what a counter has grown by in the chosen time range."""
        return self.total("increase", counter, "$__range", by, *matchers)

    def rate(self, counter: str, by: str = "", *matchers: str) -> str:
        """Give how much a counter grows a second at the moment."""
        return self.total("rate", counter, "$__rate_interval", by, *matchers)

    def or_zero(self, expression: str, function: str, window: str, by: str = "") -> str:
        """Give 0 where a counter has no series yet, but only where requests are there at all.

        `or vector(0)` would show a zero also where nothing is scraped.
        """
        return f"({expression} or 0 * {self.total(function, self.requests, window, by)})"

    def quantile(self, q: float, histogram: str, window: str, by: str = "") -> str:
        """Give the value that a share `q` of a histogram's observations stayed under, in its own unit."""
        labels = f"le, {by}" if by else "le"
        buckets = f"{self.of(f'{histogram}_bucket')}[{window}]"
        return f"histogram_quantile({q:.2f}, sum by ({labels}) (rate({buckets})))"

    def share(
        self, part: str, whole: str, function: str, window: str, by: str = "", *matchers: str
    ) -> str:
        """Give which share of a counter another one is, 0 where that has no series; absent where both are 0."""
        return (
            f"{self.or_zero(self.total(function, part, window, by, *matchers), function, window, by)}"
            f" / ({self.total(function, whole, window, by)} > 0)"
        )
