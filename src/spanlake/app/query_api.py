"""Asking the query API of a running server, for the commands that do: one GET, and errors that say what to change."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping

from spanlake.app.load.send.address import Address, check_reachable, open_http
from spanlake.app.trace_view.read import printable
from spanlake.model.errors import InvalidInput, NoTenant, Unavailable

TOKEN_VARIABLE = "SPANLAKE_TOKEN"  # noqa: S105 (a name)
DEFAULT_URL = "http://127.0.0.1:3200"
TIMEOUT_SECONDS = 90.0  # more than a server gives a query
TEXT_CHARACTERS_MAX = 2000


def get_answer(address: Address, target: str, tenant: str | None, *, media_types: tuple[str, ...], what: str) -> bytes:
    """The body of the answer to `GET target` (path and query, below the path of the address), in the first of the media types.

    Unavailable if nothing answers, else InvalidInput or NoTenant for an answer that is not 200 with one of the media types; `what` names
    what was asked for.
    """
    check_reachable(address, "--url")
    connection = open_http(address, TIMEOUT_SECONDS)
    headers = {"Accept": media_types[0], **({"X-Scope-OrgID": tenant} if tenant else {}), **own_credentials(os.environ)}
    try:
        connection.request("GET", f"{address.path}{target}", headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = str(error).lower() if isinstance(error, OSError) else "what listens there does not speak HTTP"
        raise Unavailable(f"{address} gave no answer: {reason}; --url takes the query API, by default {DEFAULT_URL}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise _refusal(address, response.status, body, what)
    media_type = response.headers.get_content_type()
    if media_type not in media_types:
        raise InvalidInput(f"{address} answers with {media_type}, which is no {what}; --url takes the query API, by default {DEFAULT_URL}")
    return body


def own_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """The header with the token that the environment has for commands that ask a server; none without a token."""
    token = environ.get(TOKEN_VARIABLE, "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refusal(address: Address, status: int, body: bytes, what: str) -> Exception:
    text = "\n".join(printable(line) for line in body[:TEXT_CHARACTERS_MAX].decode("utf-8", "replace").rstrip().split("\n"))
    match status:
        case 401 if "credentials" in text:
            return InvalidInput(f"{address} refuses: {text}; put a token into the environment variable {TOKEN_VARIABLE}")
        case 401:
            return NoTenant(f"{address} refuses: {text}; name the tenant with --tenant NAME")
        case 404:
            return InvalidInput(f"{address} has no {what} API: {text}; --url takes the query API, by default {DEFAULT_URL}")
        case 429 | 502 | 503 | 504:
            return Unavailable(f"{address} cannot answer now: {status} {text}")
        case _:
            return InvalidInput(f"{address} refuses: {status} {text}")
