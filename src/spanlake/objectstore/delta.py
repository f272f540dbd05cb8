"""Where the `deltalake` library finds a table below the root of a store, and with which options.

Credentials and endpoints are not among them: deltalake reads the same variables of the environment as obstore (AWS_ENDPOINT_URL,
AWS_ALLOW_HTTP, AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, …).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from spanlake.model.errors import ConfigError
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.store import check_key


@dataclass(frozen=True, slots=True)
class DeltaLocation:
    """The arguments `table_uri` and `storage_options` of deltalake's functions."""

    url: str
    options: dict[str, str]


def delta_location(root_url: str, key: str, settings: StoreSettings) -> DeltaLocation:
    """The table in the directory `key` of the store with the canonical `url`. ConfigError for memory, which deltalake cannot share."""
    scheme = root_url.partition(":")[0]
    if scheme == "memory":
        raise ConfigError("data: memory:// holds no Delta tables; use a directory")
    options = {} if scheme == "file" else _remote_options(settings)
    if scheme == "s3":
        # Without it two writers could commit the same version; S3 and all current compatible stores can.
        options["conditional_put"] = "etag"
    return DeltaLocation(url=f"{root_url}/{quote(check_key(key))}", options=options)


def _remote_options(settings: StoreSettings) -> dict[str, str]:
    # deltalake retries inside, so its bounds are ours.
    return client_options(settings) | {
        "max_retries": str(settings.attempts_max - 1),
        "retry_timeout": duration(settings.attempts_max * settings.timeout_seconds),
        "backoff_config.init_backoff": duration(settings.backoff_first_seconds),
        "backoff_config.max_backoff": duration(settings.backoff_max_seconds),
    }


def client_options(settings: StoreSettings) -> dict[str, str]:
    """The HTTP options that obstore and deltalake share: how long one request, and only its connection, may take."""
    return {"timeout": duration(settings.timeout_seconds), "connect_timeout": duration(min(settings.timeout_seconds, 5.0))}


def duration(seconds: float) -> str:
    """Both libraries' notation, with whole milliseconds and at least one."""
    return f"{max(round(seconds * 1000), 1)}ms"
