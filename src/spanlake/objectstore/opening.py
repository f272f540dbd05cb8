"""From the setting `data` to an ObjectStore: the one place that knows which URL means which backend.

    ./data, /var/lib/spanlake, file:///var/lib/spanlake     a directory
    s3://bucket/prefix                                      S3 and compatible stores
    gs://bucket/prefix                                      Google Cloud Storage
    az://container/prefix                                   Azure Blob Storage; the account from AZURE_STORAGE_ACCOUNT_NAME
    memory://                                               this process only, for tests

Credentials and endpoints come from the environment, as the vendors' own tools read them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import obstore.store
from obstore.exceptions import BaseError

from spanlake.model.errors import ConfigError, InvalidInput
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.bucket import BucketClients, BucketStore
from spanlake.objectstore.delta import client_options
from spanlake.objectstore.local import LocalStore, remove_leftovers
from spanlake.objectstore.retrying import RetryingStore
from spanlake.objectstore.store import ObjectStore, check_prefix

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Obstore
    from obstore.store import RetryConfig

FORMS = "a directory, file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
LEFTOVER_AGE_NS = 24 * 3600 * 10**9

# The strictest common rule is S3's; GCS also allows underscores, and old S3 buckets capitals.
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")

_BUCKET_CLASSES: dict[str, Callable[..., Obstore]] = {
    "s3": obstore.store.S3Store,
    "gs": obstore.store.GCSStore,
    "az": obstore.store.AzureStore,
}


def open_store(data: str, settings: StoreSettings | None = None, *, scratch: Path | None = None) -> ObjectStore:
    """The store for a value of the setting `data`; ConfigError names the value, the problem and the remedy.

    A directory is made if missing, and tried. Buckets are not contacted: a wrong one shows with the first request. `scratch` is the
    directory for unfinished files of remote stores (default: a temporary one); a local store has its own below its root.
    """
    settings = settings or StoreSettings()
    if "://" not in data:
        return _open_directory(data, data)
    parts = urlsplit(data)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"data: {data!r} has a query, fragment or user, which no store takes; use {FORMS}")
    if parts.scheme == "file":
        return _open_directory(data, _path_of_file_url(data, parts.netloc, parts.path))
    if parts.scheme == "memory":
        return _open_memory(data, parts.netloc + parts.path, scratch)
    if parts.scheme in _BUCKET_CLASSES:
        return RetryingStore(_open_bucket(data, settings, scratch), settings)
    raise ConfigError(f"data: {data!r} has the unknown scheme {parts.scheme!r}; use {FORMS}")


def _open_directory(data: str, directory: str) -> LocalStore:
    if not directory.strip():
        raise ConfigError(f"data: {data!r} names no place; use {FORMS}")
    root = Path(directory).expanduser().absolute()
    if {"[", "]"} & set(str(root)):
        raise ConfigError(f"data: the Delta library cannot open paths with brackets, like {str(root)!r}; choose another directory")
    try:
        root.mkdir(parents=True, exist_ok=True)
        root = root.resolve(strict=True)
        store = LocalStore(root)
        # Nothing but writing tells whether one may write: permissions, read-only mounts, quotas.
        probe = store.scratch / f"probe-{time.time_ns()}"
        probe.write_bytes(b"spanlake")
        probe.unlink()
        remove_leftovers(store.scratch, time.time_ns() - LEFTOVER_AGE_NS)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        remedy = "choose a directory that this user can write, or fix its permissions"
        raise ConfigError(f"data: cannot use the directory {str(root)!r}: {cause}; {remedy}") from error
    return store


def _path_of_file_url(data: str, host: str, path: str) -> str:
    if host not in {"", "localhost"} or not path.startswith("/"):
        raise ConfigError(f"data: {data!r} is not a local file URL; write file:///absolute/directory")
    return unquote(path)


def _open_memory(data: str, name: str, scratch: Path | None) -> BucketStore:
    if name.strip("/"):
        raise ConfigError(f"data: {data!r} names a place, but memory has none; write memory://")
    client = obstore.store.MemoryStore()
    return BucketStore("memory://", BucketClients(once=client, parts=client), scratch)


def _open_bucket(data: str, settings: StoreSettings, scratch: Path | None) -> BucketStore:
    parts = urlsplit(data)
    if not _BUCKET_NAME.fullmatch(parts.netloc):
        raise ConfigError(f"data: {data!r} names no bucket or container that can exist; write {parts.scheme}://name/prefix")
    try:
        prefix = check_prefix(unquote(parts.path).removeprefix("/"))
    except InvalidInput as error:
        raise ConfigError(f"data: the prefix in {data!r} cannot be used: {error}") from error
    url = f"{parts.scheme}://{parts.netloc}/{quote(prefix)}".removesuffix("/")
    options = dict(client_options(settings))
    if parts.scheme == "s3":
        options["conditional_put"] = "etag"

    def client(attempts: int) -> Obstore:
        # Options go into `config`: passed as client_options they would switch off AWS_ALLOW_HTTP of the environment.
        retries = _retry_config(settings, attempts)
        return _BUCKET_CLASSES[parts.scheme](parts.netloc, prefix=prefix or None, config=options, retry_config=retries)

    try:
        return BucketStore(url, BucketClients(once=client(1), parts=client(settings.attempts_max)), scratch)
    except (BaseError, OSError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise ConfigError(
            f"data: cannot use {data!r}: {cause}; check the environment variables with the account and credentials"
        ) from error


def _retry_config(settings: StoreSettings, attempts: int) -> RetryConfig:
    backoff: Any = {
        "init_backoff": timedelta(seconds=settings.backoff_first_seconds),
        "max_backoff": timedelta(seconds=settings.backoff_max_seconds),
    }
    timeout = timedelta(seconds=attempts * settings.timeout_seconds)
    return {"max_retries": attempts - 1, "backoff": backoff, "retry_timeout": timeout}
