"""What becomes of a pushed payload, as the receivers report it. Knows neither OTLP nor how spans are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accepted:
    """`spans` spans are durable and readable; `rejected` were refused one by one.

    `reason` names the first refused span and its fault, and is empty when none was refused.
    """

    spans: int
    rejected: int = 0
    reason: str = ""
