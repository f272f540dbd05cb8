"""Searches and tags in the encoding that `Accept` asks for: wire contract section 1.0. What the messages hold: tests/wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from serving import Served, serving
from strict_json import decode_strictly
from tempo_proto import tempo_message

from spanlake.model.queries import Inspected, SearchAnswer, TagNamesAnswer, TagValue, TagValuesAnswer
from spanlake.model.results import SpanFound, SpansetFound, TraceFound

JSON, PROTOBUF = "application/json", "application/protobuf"
FOUND = TraceFound(0xA1, "shop", "GET /", 5, 7_000_000, (), (SpansetFound((), 1, (SpanFound(1, "GET", 5, 7, ()),)),))
NAMES = TagNamesAnswer((("span", ("a", "b")), ("intrinsic", ("name",))), Inspected(bytes=6))
VALUES = TagValuesAnswer((TagValue("int", "5"), TagValue("string", "a")), Inspected(bytes=6))
ENDPOINTS = [
    ("/api/search?q=%7B%7D", SearchAnswer((FOUND,), Inspected(bytes=6)), "SearchResponse"),
    ("/api/search?tags=a%3Db", SearchAnswer((FOUND,), Inspected(bytes=6)), "SearchResponse"),
    ("/api/search/tags", NAMES, "SearchTagsResponse"),
    ("/api/search/tags?scope=intrinsic", NAMES, "SearchTagsResponse"),
    ("/api/v2/search/tags", NAMES, "SearchTagsV2Response"),
    ("/api/search/tag/a/values", VALUES, "SearchTagValuesResponse"),
    ("/api/v2/search/tag/span.a/values", VALUES, "SearchTagValuesV2Response"),
]
ACCEPTED = [
    (None, JSON),
    ("*/*", JSON),
    ("application/json, text/plain, */*", JSON),
    ("application/vnd.grafana.llm", JSON),
    ("application/protobuf", PROTOBUF),
    ("application/json, application/protobuf;q=0.1", PROTOBUF),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.mark.parametrize(("path", "answer", "message"), ENDPOINTS)
@pytest.mark.parametrize(("accept", "media_type"), ACCEPTED)
def test_answer_is_in_the_accepted_encoding(
    served: Served, path: str, answer: Any, message: str, *, accept: str | None, media_type: str
) -> None:
    served.queries.outcome = answer
    reply = served.get(path, **({} if accept is None else {"accept": accept}))
    assert (reply.status, reply.headers["content-type"]) == (200, media_type)
    if media_type == JSON:
        assert decode_strictly(message, reply.body)
    else:
        assert tempo_message(message).FromString(reply.body).metrics.inspectedBytes == 6


@pytest.mark.parametrize(("path", "answer", "message"), ENDPOINTS)
def test_both_encodings_say_the_same(served: Served, path: str, answer: Any, message: str) -> None:
    served.queries.outcome = answer
    as_json, as_protobuf = served.get(path, accept=JSON), served.get(path, accept=PROTOBUF)
    assert Parse(as_json.body, tempo_message(message)()) == tempo_message(message).FromString(as_protobuf.body)
