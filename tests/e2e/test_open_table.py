"""The table is open: other programs read it in place and count the same spans as the API."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from server_process import serving

from node import NOW_NS, spans_in
from spanlake.app.load.traces import TraceTemplates

pytestmark = pytest.mark.slow

COMMON = "select count(*), count(distinct trace_id), sum(duration_ns), count(*) filter (status_code = 2)"


def test_other_programs_count_the_same_spans_as_the_api_after_a_flush(tmp_path: Path) -> None:
    templates = TraceTemplates(11, spans_per_payload=500)
    table = str(tmp_path / "data/tables/single-tenant")
    settings = {"compaction__interval_seconds": 0.2, "compaction__blocks_min": 2, "blocks__row_group_spans": 512}
    sent = [templates.payload(number, NOW_NS) for number in range(8)]
    with serving(tmp_path, **settings) as server:
        for begin in range(0, 8, 2):
            for payload in sent[begin : begin + 2]:
                assert server.push(payload).status == 200
            assert server.stop() == 0
            server.start()
        traces = [trace for number in range(8) for trace in templates.trace_ids_in(number)]
        answers = [spans_in(TracesData.FromString(server.trace(trace).body)) for trace in traces]
        assert server.stop() == 0
    spans = [span for answer in answers for span in answer]
    services = {"name": {span.name for span in spans}, "errors": sum(span.status.code == 2 for span in spans)}
    durations = sum(span.end_time_unix_nano - span.start_time_unix_nano for span in spans)
    expected = (len(spans), len(traces), durations, services["errors"])
    assert len(spans) == sum(templates.spans_in(number) for number in range(8))

    frame = pl.scan_delta(table)
    columns = [pl.len(), pl.col("trace_id").n_unique(), pl.col("duration_ns").sum(), (pl.col("status_code") == 2).sum()]
    assert frame.select(*(column.alias(str(place)) for place, column in enumerate(columns))).collect().row(0) == expected
    assert set(frame.select("name").unique().collect()["name"]) == services["name"]

    rows = DeltaTable(table).to_pyarrow_table(columns=["trace_id", "duration_ns"])
    assert (rows.num_rows, rows["duration_ns"].to_numpy().sum()) == (len(spans), durations)

    files = DeltaTable(table).file_uris()
    connection = duckdb.connect()
    assert connection.execute(f"{COMMON} from read_parquet({files!r}, union_by_name = true)").fetchone() == expected
