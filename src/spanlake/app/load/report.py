"""The final report of a run, as a JSON document and as tables for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from spanlake.app.load.run import LoadPlan
from spanlake.app.load.tally import Figures
from spanlake.app.load.verify import Verification

MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `verification` is None when none was asked for."""

    plan: LoadPlan
    seed: int
    figures: Figures
    interrupted: bool
    gave_up: bool
    verification: Verification | None = None

    @property
    def passed(self) -> bool:
        """Whether every span that was sent was acknowledged, and every acknowledged one that was looked for was found."""
        whole = not self.figures.failures and not self.figures.spans_rejected
        return whole and (self.verification is None or self.verification.passed)


def spans_per_second(figures: Figures) -> float:
    """Acknowledged spans per second of the run."""
    return figures.spans_acknowledged / figures.seconds if figures.seconds else 0.0


def megabytes_per_second(figures: Figures) -> float:
    """Acknowledged payload bytes per second of the run, before compression, in units of 10^6."""
    return figures.payload_bytes / figures.seconds / MEGABYTE if figures.seconds else 0.0


def report_json(report: Report) -> dict[str, Any]:
    """The report as `--json` prints it."""
    figures = report.figures
    document: dict[str, Any] = {
        "endpoint": str(report.plan.address),
        "protocol": report.plan.protocol,
        "seed": report.seed,
        "seconds": round(figures.seconds, 3),
        "interrupted": report.interrupted,
        "gave_up": report.gave_up,
        "payloads_acknowledged": figures.payloads_acknowledged,
        "spans_acknowledged": figures.spans_acknowledged,
        "spans_rejected": figures.spans_rejected,
        "spans_failed": figures.spans_failed,
        "spans_per_second": round(spans_per_second(figures), 1),
        "megabytes_per_second": round(megabytes_per_second(figures), 3),
        "latency_ms": {
            "p50": round(figures.p50_seconds * 1000, 3),
            "p90": round(figures.p90_seconds * 1000, 3),
            "p99": round(figures.p99_seconds * 1000, 3),
            "max": round(figures.max_seconds * 1000, 3),
        },
        "errors": {reason: {"payloads": failure.payloads, "example": failure.example} for reason, failure in figures.failures.items()},
        "rejections": dict(figures.rejections),
        "retries": dict(figures.retries),
    }
    if report.verification is not None:
        document["verification"] = _verification_json(report.verification)
    return document


def _verification_json(verification: Verification) -> dict[str, Any]:
    return {
        "passed": verification.passed,
        "traces_read": verification.traces,
        "traces_wanted": verification.traces_wanted,
        "traces_wrong": verification.traces_wrong,
        "traces_unreadable": verification.traces_unreadable,
        "spans_expected": verification.spans,
        "spans_missing": verification.spans_missing,
        "spans_doubled": verification.spans_doubled,
        "spans_unexpected": verification.spans_unexpected,
        "findings": [str(finding) for finding in verification.findings],
    }


def print_report(report: Report, console: Console) -> None:
    """The report for people."""
    figures = report.figures
    ending = "interrupted, " if report.interrupted else "gave up, " if report.gave_up else ""
    _line(console, f"{report.plan.address} ({report.plan.protocol}), seed {report.seed}: {ending}{figures.seconds:.1f} s")
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for what, value in (
        ("spans acknowledged", f"{figures.spans_acknowledged:,}"),
        ("spans rejected", f"{figures.spans_rejected:,}"),
        ("spans in failed payloads", f"{figures.spans_failed:,}"),
        ("spans/s", f"{spans_per_second(figures):,.0f}"),
        ("MB/s", f"{megabytes_per_second(figures):,.1f}"),
        ("latency p50", _milliseconds(figures.p50_seconds)),
        ("latency p90", _milliseconds(figures.p90_seconds)),
        ("latency p99", _milliseconds(figures.p99_seconds)),
        ("latency max", _milliseconds(figures.max_seconds)),
        ("retries", f"{figures.retries_total:,}"),
        ("failed payloads", f"{figures.failures_total:,}"),
    ):
        table.add_row(what, value)
    console.print(table)
    _print_lines(console, figures)
    if report.verification is not None:
        _print_verification(report.verification, console)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def _print_lines(console: Console, figures: Figures) -> None:
    for reason, count in sorted(figures.retries.items()):
        _line(console, f"retried {count:,} times: {reason}")
    for reason, failure in sorted(figures.failures.items()):
        _line(console, f"failed {failure.payloads:,} payloads: {reason}: {failure.example}")
    for message, spans in sorted(figures.rejections.items()):
        _line(console, f"rejected {spans:,} spans: {message or 'no reason given'}")


def _print_verification(verification: Verification, console: Console) -> None:
    read = f"{verification.traces:,} traces with {verification.spans:,} spans"
    if verification.passed:
        _line(console, f"verified: {read} read back, each span exactly once")
        return
    unread = verification.traces_wanted - verification.traces
    if unread:
        _line(console, f"verification was interrupted: {unread:,} traces were not read")
    if not verification.traces_wrong:
        _line(console, f"nothing wrong in the {read} that were read")
        return
    counts = (
        (verification.spans_missing, "spans missing"),
        (verification.spans_doubled, "spans more than once"),
        (verification.spans_unexpected, "spans that were never sent"),
        (verification.traces_unreadable, "traces that cannot be read"),
    )
    summary = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    _line(console, f"VERIFICATION FAILED: {verification.traces_wrong:,} of {read}: {summary}")
    for finding in verification.findings:
        _line(console, f"  {finding}")
    hidden = verification.traces_wrong - len(verification.findings)
    if hidden:
        _line(console, f"  … and {hidden:,} more traces")


def _line(console: Console, text: str) -> None:
    """A line as it is: messages of a server are no markup, and what scripts read is not wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
