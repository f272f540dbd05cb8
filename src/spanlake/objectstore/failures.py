"""Errors of the operating system and of obstore, turned into the StoreError family.

This module decides what is transient. The text of every error names the operation, the key and the cause; query strings of URLs are cut,
because on Azure they can hold a signature.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    JoinError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from spanlake.model.errors import KeyExists, KeyMissing, StoreError

READS = frozenset({"get", "get_range", "get_ranges", "head"})
CAUSE_CHARACTERS_MAX = 400

# A full disk, a quota or a read-only mount does not go away within the seconds that a retry waits.
TRANSIENT_ERRNOS = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE, errno.EBUSY}
)

NEVER_TRANSIENT = (
    InvalidPathError,
    JoinError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
    ValueError,
)
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

# What stores say when not the object but the bucket (container, account) is missing; all of it arrives as "not found".
BUCKET_MISSING = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# S3 answers 409 with these while another request for the same key is under way: it says nothing about the outcome.
CONFLICT_UNDER_WAY = ("ConditionalRequestConflict", "OperationAborted")
# 400 responses that only mean "too slow".
SLOW_REQUEST = ("<Code>RequestTimeout</Code>",)
# Errors without a status that no retry cures.
HOPELESS = ("AccessDenied", "BareRedirect", "StartTooLarge", "InvalidRange", "invalid path")

_STATUS = re.compile(r"status code: (\d{3})")
_QUERY = re.compile(r"\?\S+")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")


@contextmanager
def local_failures(operation: str, key: str) -> Iterator[None]:
    """OSError inside becomes KeyMissing, KeyExists or StoreError."""
    try:
        yield
    except OSError as error:
        raise _of_the_system(operation, key, error) from error


@contextmanager
def bucket_failures(operation: str, key: str, url: str) -> Iterator[None]:
    """obstore's exceptions inside become KeyMissing, KeyExists or StoreError; `url` is the root, for the text."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        raise _of_obstore(operation, key, url, error) from error


def says_bucket_is_missing(text: str) -> bool:
    """Whether the text of a "not found" means the bucket, not the object."""
    return any(marker in text for marker in BUCKET_MISSING)


def _of_the_system(operation: str, key: str, error: OSError) -> StoreError:
    if operation in READS and isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return KeyMissing(key)
    if operation == "put_if_absent" and isinstance(error, FileExistsError):
        return KeyExists(key)
    cause = error.strerror or str(error)
    place = f" ({error.filename})" if error.filename else ""
    return StoreError(f"{operation} of object {key!r} failed: {cause}{place}", transient=error.errno in TRANSIENT_ERRNOS)


def _of_obstore(operation: str, key: str, url: str, error: Exception) -> StoreError:
    text = str(error)
    if says_bucket_is_missing(text):
        return StoreError(f"{operation} of object {key!r} failed: there is no bucket or container at {url}; create it", transient=False)
    if operation in READS and isinstance(error, FileNotFoundError):
        return KeyMissing(key)
    conflict = isinstance(error, AlreadyExistsError | PreconditionError)
    if conflict and any(marker in text for marker in CONFLICT_UNDER_WAY):
        return StoreError(f"{operation} of object {key!r} met another request for that key at {url}", transient=True)
    if conflict and operation == "put_if_absent":
        return KeyExists(key)
    return StoreError(f"{operation} of object {key!r} at {url} failed: {_cause(text)}", transient=_is_transient(error, text))


def _is_transient(error: Exception, text: str) -> bool:
    if isinstance(error, NEVER_TRANSIENT) or "BadScheme" in text:
        return False
    if any(marker in text for marker in SLOW_REQUEST):
        return True
    status = _STATUS.search(text)
    if status:
        return int(status.group(1)) in TRANSIENT_STATUSES
    # Without a status no answer came (connection, timeout, broken body, credentials): rather retry in vain than give up too early.
    return not any(marker in text for marker in HOPELESS)


def _cause(text: str) -> str:
    """The first part of obstore's message on one line, with the kind of connection failure that only its debug part tells."""
    cause, _, debug = text.partition("\n\nDebug source")
    kind = _KIND.search(debug)
    line = " ".join(_QUERY.sub("?…", cause).split())[:CAUSE_CHARACTERS_MAX]
    if "BadScheme" in debug:
        return f"{line} (plain http is refused: use https, or set AWS_ALLOW_HTTP=true, GOOGLE_ALLOW_HTTP=true or AZURE_ALLOW_HTTP=true)"
    return f"{line} ({kind.group(1)})" if kind else line
