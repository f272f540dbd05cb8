"""Hostile requests over gRPC, to a whole server: every one has an answer, or a status that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import Live, live_server
from serving import WAIT_SECONDS
from tempo_proto import tempo_message
from test_query_fuzz import IDS, ODD, QUERIES, SCOPES

from node import NOW_NS, request, span

REQUESTS = {
    "Search": "SearchRequest",
    "MetricsQueryRange": "QueryRangeRequest",
    "MetricsQueryInstant": "QueryInstantRequest",
    **dict.fromkeys(("SearchTags", "SearchTagsV2"), "SearchTagsRequest"),
    **dict.fromkeys(("SearchTagValues", "SearchTagValuesV2"), "SearchTagValuesRequest"),
}
TEXTS = st.sampled_from([*QUERIES, *SCOPES, *IDS, *ODD]) | st.text(max_size=10)
NUMBERS = st.sampled_from([0, 1, 60, 1 << 31, NOW_NS // 10**9, NOW_NS, (1 << 63) - 1, (1 << 64) - 1])
EXPECTED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


def value_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:  # the map of tags
        return st.dictionaries(TEXTS, TEXTS, max_size=2)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.lists(TEXTS, max_size=1) if field.is_repeated else TEXTS
    return NUMBERS.map(lambda number: number & 0xFFFF_FFFF) if field.type == FieldDescriptor.TYPE_UINT32 else NUMBERS


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method with a message of its own type, sound or cut, or with anything."""
    method = draw(st.sampled_from(sorted(REQUESTS)))
    kind = tempo_message(REQUESTS[method])
    fields = draw(st.lists(st.sampled_from(list(kind.DESCRIPTOR.fields)), max_size=5, unique_by=lambda field: field.number))
    encoded = kind(**{field.name: draw(value_of(field)) for field in fields}).SerializeToString()
    return method, draw(st.just(encoded) | st.binary(max_size=20).map(lambda more: encoded[: len(more) * 5] + more))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("fuzz")) as live:
        live.push(request(*(span(trace, number) for trace in (0xA1, 2, 3) for number in range(1, 6))))
        yield live


@pytest.fixture(scope="module")
def channel(live: Live) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{live.ports.http}") as channel:
        yield channel


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(call=calls())
def test_request_is_answered_or_refused(channel: grpc.Channel, call: tuple[str, bytes]) -> None:
    method, message = call
    ask: Any = channel.unary_stream(f"/tempopb.StreamingQuerier/{method}")
    try:
        assert list(ask(message, timeout=WAIT_SECONDS))
    except grpc.RpcError as error:
        status = error
    else:
        return
    assert status.code() in EXPECTED, (status.code(), status.details())
    assert status.details()
