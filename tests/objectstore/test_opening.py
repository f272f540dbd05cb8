"""What the setting `data` may be, and what a user reads when it is something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spanlake.model.errors import ConfigError
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.opening import open_store


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")


@pytest.mark.parametrize(
    ("data", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a b", "s3://bucket/a%20b"),
        ("s3://bucket/a%20b", "s3://bucket/a%20b"),
        ("gs://my.bucket_x/a", "gs://my.bucket_x/a"),
        ("az://container/a", "az://container/a"),
        ("memory://", "memory://"),
        ("memory:///", "memory://"),
    ],
)
def test_remote_url_becomes_canonical(data: str, url: str) -> None:
    store = open_store(data, StoreSettings(timeout_seconds=1))
    assert store.url == url
    assert open_store(store.url).url == url


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}/", "{}/x/../"])
def test_directory_is_made_when_missing(form: str, tmp_path: Path) -> None:
    root = tmp_path / "not yet" / "there"
    data = form.format(str(root).replace(" ", "%20") if form.startswith("file") else root)
    store = open_store(data)
    assert store.url == root.as_uri()
    store.put("a", b"1")
    assert (root / "a").read_bytes() == b"1"
    assert open_store(store.url).get("a") == b"1"


def test_relative_and_home_directories_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_store("./data").url == (tmp_path / "data").as_uri()
    assert open_store("~/data").url == (tmp_path / "home/data").as_uri()


@pytest.mark.parametrize(
    ("data", "explanation"),
    [
        ("", "names no place"),
        ("   ", "names no place"),
        ("http://host/x", "unknown scheme 'http'; use a directory"),
        ("ftp://host", "unknown scheme 'ftp'"),
        ("file://host/dir", "not a local file URL"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://bad bucket/prefix", "names no bucket"),
        ("s3://bucket/a/../b", "the segment '..'"),
        ("s3://bucket//b", "empty segment"),
        ("s3://bucket/a?region=x", "query, fragment or user"),
        ("s3://key:secret@bucket/a", "query, fragment or user"),
        ("gs://b#a", "query, fragment or user"),
        ("memory://somewhere", "write memory://"),
        ("/tmp/with[brackets]", "brackets"),
        ("/tmp/nul\x00byte", "null byte"),
        ("/proc/no/such", "cannot use the directory '/proc/no/such': No such file"),
        ("/dev/null", "cannot use the directory '/dev/null': "),
        ("/dev/null/below", "Not a directory; choose a directory"),
    ],
)
def test_error_explains_when_value_is_unusable(data: str, explanation: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(data)
    assert str(caught.value).startswith("data: ")
    assert explanation in str(caught.value)


def test_error_names_the_missing_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(ConfigError, match=r"'az://container'.*Account must be specified; check the environment variables"):
        open_store("az://container")


def test_leftovers_are_removed_when_a_day_old(tmp_path: Path) -> None:
    scratch = open_store(str(tmp_path)).scratch
    for name in ("old", "young"):
        (scratch / name).touch()
    os.utime(scratch / "old", ns=(0, 0))
    open_store(str(tmp_path))
    assert [path.name for path in scratch.iterdir()] == ["young"]


def test_scratch_of_a_remote_store_is_made_on_use(tmp_path: Path) -> None:
    given = open_store("s3://bucket", scratch=tmp_path / "a/b")
    assert not (tmp_path / "a").exists()
    assert given.scratch == tmp_path / "a/b"
    assert given.scratch.is_dir()


def test_temporary_scratch_is_gone_after_exit() -> None:
    code = "from spanlake.objectstore.opening import open_store; print(open_store('memory://').scratch)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert not Path(ran.stdout.strip()).exists()
