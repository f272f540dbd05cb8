"""Credentials: who has which secret, and may therefore do what. Secrets are kept as digests, and compared without telling by time.

A request brings credentials in its Authorization header, `Bearer TOKEN` or `Basic` with a user and a password. A token may also stand as
the password of any user, for clients that know nothing but user and password; the user then names the tenant.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from spanlake.model.errors import Unauthenticated

_USER_OF_TOKENS = ""


class Role(StrEnum):
    """What credentials allow: to query, to push, to change limits."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Credential:
    """What one secret allows. `tenants` None: those of every tenant, and what is about the server as a whole."""

    digest: bytes
    tenants: frozenset[str] | None
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Presented:
    """Known credentials that a request brings, with the tenant that the user of a token names, empty without one."""

    credential: Credential
    user_tenant: str = ""


def secret_digest(secret: str, *, user: str = _USER_OF_TOKENS) -> bytes:
    """What is kept of a user's password, or, without a user, of a token."""
    return hashlib.sha256(f"{user}\0{secret}".encode()).digest()


def known(credentials: Sequence[Credential], values: Iterable[str]) -> Presented:
    """What the Authorization values of a request present. Unauthenticated if that is nothing, or nothing known."""
    given = {value.strip() for value in values if value.strip()}
    if not given:
        raise Unauthenticated("credentials are missing: send the header Authorization with Bearer and a token, or Basic", reason="missing")
    if len(given) > 1:
        raise Unauthenticated("the request has several Authorization headers, expected one", reason="malformed")
    scheme, _, text = given.pop().partition(" ")
    match scheme.lower():
        case "bearer":
            found = _find(credentials, secret_digest(text.strip()))
            user = ""
        case "basic":
            user, password = _user_and_password(text.strip())
            found = _find(credentials, secret_digest(password, user=user))
            if found is not None and user != _USER_OF_TOKENS:
                return Presented(found)
            found = _find(credentials, secret_digest(password))
        case _:
            raise Unauthenticated("the Authorization header is neither Bearer nor Basic", reason="malformed")
    if found is None:
        raise Unauthenticated("the credentials are not known", reason="unknown")
    return Presented(found, user)


def _find(credentials: Sequence[Credential], digest: bytes) -> Credential | None:
    """The credential with that digest. Looks at all of them, whichever it is."""
    found = None
    for one in credentials:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found


def _user_and_password(text: str) -> tuple[str, str]:
    try:
        user, separator, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        separator = ""
    if not separator:
        raise Unauthenticated("the Basic credentials are not user:password in base64", reason="malformed")
    return user, password
