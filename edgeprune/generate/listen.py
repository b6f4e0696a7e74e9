"""Sockets a server may listen on: loopback, or a unix socket that only its owner can open."""

import os
import socket
import stat
from pathlib import Path

from edgeprune.errors import DeviceError, UsageError

__all__ = ["loopback_socket", "unix_socket"]


def loopback_socket(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes a free one.

    Raises:
        DeviceError: the port is taken or not allowed.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()  # whoever is told the address may connect at once
    except OSError as error:
        listening.close()
        raise DeviceError(f"Port {port} cannot be listened on ({error.strerror}); give another with --port.") from error
    return listening


def unix_socket(path: Path) -> socket.socket:
    """A unix socket of mode 0600; one that nobody listens on any more is replaced.

    Raises:
        UsageError: something else stands there, another server listens, or the folder cannot be written.
    """
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path} exists and is no socket; give another path with --socket.")
        if _is_answered(path):
            raise UsageError(f"A server listens on {path} already; give another path with --socket.")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(f"{path} cannot be listened on ({error}); give another path with --socket.") from error
    finally:
        os.umask(before)
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
