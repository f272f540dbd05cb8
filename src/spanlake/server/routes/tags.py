"""Names and values of tags, version 1 and 2: wire-contract section 1.6."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.stop import Stop
from spanlake.server.answers import Answer, QueryEdge, negotiated_answer, stoppable_endpoint
from spanlake.server.parameters.search import RangeLimitsOf, parse_tag_names, parse_tag_values
from spanlake.server.ports import TagSource
from spanlake.wire.search_json import encode_tag_names_v1, encode_tag_names_v2, encode_tag_values_v1, encode_tag_values_v2
from spanlake.wire.tempo_protobuf import (
    encode_tag_values_response,
    encode_tag_values_v2_response,
    encode_tags_response,
    encode_tags_v2_response,
)

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


def tag_routes(edge: QueryEdge, tags: TagSource, limits: RangeLimitsOf) -> list[Route]:
    """`/api/search/tags`, `/api/search/tag/{name}/values` and the same below `/api/v2`."""

    def names_v1(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        query = parse_tag_names(request.query_params, limits(tenant))
        found = tags.names(tenant, query, stop)
        intrinsics = query.scope == "intrinsic"
        as_json, as_protobuf = partial(encode_tag_names_v1, intrinsics=intrinsics), partial(encode_tags_response, intrinsics=intrinsics)
        return negotiated_answer(request, found, as_json=as_json, as_protobuf=as_protobuf)

    def names_v2(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        found = tags.names(tenant, parse_tag_names(request.query_params, limits(tenant)), stop)
        return negotiated_answer(request, found, as_json=encode_tag_names_v2, as_protobuf=encode_tags_v2_response)

    def values_v1(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        query = parse_tag_values(tag_in(request), request.query_params, limits(tenant))
        found = tags.values_v1(tenant, query, stop)
        return negotiated_answer(request, found, as_json=encode_tag_values_v1, as_protobuf=encode_tag_values_response)

    def values_v2(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        query = parse_tag_values(tag_in(request), request.query_params, limits(tenant))
        found = tags.values(tenant, query, stop)
        return negotiated_answer(request, found, as_json=encode_tag_values_v2, as_protobuf=encode_tag_values_v2_response)

    def route(path: str, answer: Callable[[Request, Stop], Answer]) -> Route:
        return Route(path, stoppable_endpoint(edge, answer))

    return [
        route("/api/search/tags", names_v1),
        route("/api/v2/search/tags", names_v2),
        route("/api/search/tag/{tag:path}/values", values_v1),
        route("/api/v2/search/tag/{tag:path}/values", values_v2),
    ]


def tag_in(request: Request) -> str:
    """The tag of the path. Old frontends encode it twice."""
    tag: str = request.path_params["tag"]
    return unquote(tag) if _ENCODED.search(tag) else tag
