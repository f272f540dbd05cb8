"""A place for a Unix socket that only this process's user can reach, and the removal of those that killed processes left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from spanlake.model.errors import ConfigError

PATH_BYTES_MAX = 85
"""Systems accept 103 at least; the names of pipes are longer by their number."""

LEFT_SECONDS = 60.0
"""A socket on which nobody listens has been left behind when it is older; a younger one may belong to a server that starts."""

_PREFIX, _NAME = "spanlake-", "grpc"


class PrivateSocket:
    """Owns a directory below the temporary one, from the start to `remove`. ConfigError if there can be none."""

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        _remove_left_behind(root, older_than=time.time() - LEFT_SECONDS)
        try:
            self._directory = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=root)
        except OSError as error:
            raise ConfigError(f"cannot make a directory in {root} for a socket: {error.strerror}; TMPDIR names another place") from error
        self.path = str(Path(self._directory.name) / _NAME)
        if len(os.fsencode(self.path)) > PATH_BYTES_MAX:
            self.remove()
            raise ConfigError(f"the path of the socket {self.path} is too long; TMPDIR names the directory for it, choose a shorter one")

    def remove(self) -> None:
        """Remove the directory with what is in it."""
        self._directory.cleanup()


def _remove_left_behind(root: Path, *, older_than: float) -> None:
    """Remove the directories of our user with a socket on which nobody listens. Whatever cannot be removed stays."""
    for directory in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if status.st_uid == os.getuid() and status.st_mtime < older_than and _nobody_listens(directory / _NAME):
                shutil.rmtree(directory, ignore_errors=True)


def _nobody_listens(path: Path) -> bool:
    """Whether it is a socket that refuses connections. OSError if it is none, or does not say."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return path.is_socket()
    return False
