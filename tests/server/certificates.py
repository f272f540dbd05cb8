"""Certificates made for a test: an authority and what it signs, as PEM files."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SUBJECT = "/CN=localhost"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def self_signed(directory: Path, name: str) -> Certificate:
    """A certificate that is its own authority."""
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", SUBJECT, "-addext", NAMES)
    openssl("req", "-x509", *curve, "-keyout", made.key, "-out", made.certificate)
    return made


def with_passphrase(one: Certificate, passphrase: str) -> Path:
    """The same key, encrypted."""
    path = one.key.with_suffix(".encrypted")
    openssl("ec", "-in", one.key, "-aes256", "-passout", f"pass:{passphrase}", "-out", path)
    return path
