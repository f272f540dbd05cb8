"""What TraceQL metrics cost: spans per CPU second on stored blocks, one thread, and the memory of a long range over many blocks.

    python bench/bench_metrics.py [spans] [--keep DIRECTORY]

`--keep` as in bench_query.py, whose blocks these are. Files are in the page cache of the system.
"""

from __future__ import annotations

from bench_query import BEGIN_NS, PAYLOAD_NS, PAYLOAD_SPANS, RUNS, TENANT, measure, stored_spans
from spanlake.model.metrics import RangeQuery
from spanlake.model.queries import Inspected
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.metrics import Meter

STEP_NS = 60_000_000_000
QUERIES = {
    "rate by service": "{ } | rate() by (resource.service.name)",
    "rate of errors": "{ status = error } | rate() by (resource.service.name)",
    "histogram of duration": "{ } | histogram_over_time(duration)",
    "quantiles by service": "{ } | quantile_over_time(duration, .5, .9, .99) by (resource.service.name)",
    "average by two": "{ kind = server } | avg_over_time(duration) by (resource.service.name, span.http.route)",
    "structure": '{ resource.service.name = "gateway" } >> { status = error } | count_over_time() by (name)',
    "compare errors": "{ } | compare({ status = error })",
}


def main() -> None:
    with stored_spans("CPU seconds of metrics queries on stored blocks") as (bench, spans):
        meter = Meter(bench.sources, QuerySettings())
        window = TimeRange(BEGIN_NS, BEGIN_NS + spans // PAYLOAD_SPANS * PAYLOAD_NS)
        for name, text in QUERIES.items():
            series = 0

            def ask(text: str = text) -> Inspected:
                nonlocal series
                answer = meter.query_range(TENANT, RangeQuery(text, window, STEP_NS), Stop())
                series = len(answer.series)
                return answer.inspected

            first, inspected = measure(ask)
            again = min(measure(ask)[0] for _ in range(RUNS))
            print(
                f"{name:<24} first {first:6.3f} s, again {again:6.3f} s CPU: {inspected.spans / again / 1e6:6.1f} M spans/s; "
                f"{inspected.bytes / 1e6:6.1f} of {inspected.block_bytes / 1e6:.0f} MB; {series} series"
            )


if __name__ == "__main__":
    main()
