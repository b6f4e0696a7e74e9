"""Where the daemon's files are: one folder that lives as long as the session, one that stays.

    <runtime>/daemon.sock   the socket, mode 0600
    <runtime>/daemon.lock   held by the daemon; holds its process id
    <state>/journal.sqlite  jobs and events
    <state>/jobs/<id>/      request, events, log and result of each job
    <state>/daemon.log      what the daemon and its libraries had to say

Both folders are the user's alone (mode 0700). `EDGEPRUNE_RUNTIME_DIR` and `EDGEPRUNE_STATE_DIR` put them elsewhere.
"""

import os
import stat
from pathlib import Path

import msgspec
import platformdirs

from edgeprune.errors import DeviceError, UsageError

__all__ = ["RUNTIME_VARIABLE", "STATE_VARIABLE", "Places", "own_folder"]

RUNTIME_VARIABLE = "EDGEPRUNE_RUNTIME_DIR"
STATE_VARIABLE = "EDGEPRUNE_STATE_DIR"

_LONGEST_SOCKET = 107
"""Bytes of a unix socket's path that the kernel takes (108 with the closing zero)."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The two folders; nothing is created by naming them."""

    runtime: Path
    state: Path

    @classmethod
    def of_user(cls) -> "Places":
        """This user's folders."""
        runtime = os.environ.get(RUNTIME_VARIABLE)
        state = os.environ.get(STATE_VARIABLE)
        return cls(
            runtime=Path(runtime or platformdirs.user_runtime_dir("edgeprune")).absolute(),
            state=Path(state or platformdirs.user_state_dir("edgeprune")).absolute(),
        )

    @property
    def socket(self) -> Path:
        """The unix socket.

        Raises:
            UsageError: its path is longer than the kernel takes.
        """
        path = self.runtime / "daemon.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            raise UsageError(
                f"{path} is longer than the {_LONGEST_SOCKET} bytes a socket's path may have; set {RUNTIME_VARIABLE} "
                "to a shorter folder."
            )
        return path

    @property
    def lock(self) -> Path:
        """Held as long as the daemon lives."""
        return self.runtime / "daemon.lock"

    @property
    def journal(self) -> Path:
        """Jobs and events, SQLite."""
        return self.state / "journal.sqlite"

    @property
    def jobs(self) -> Path:
        """Folders of the jobs."""
        return self.state / "jobs"

    @property
    def log(self) -> Path:
        """Of the daemon itself."""
        return self.state / "daemon.log"

    def make(self) -> None:
        """Create both folders for this user alone.

        Raises:
            UsageError: one belongs to somebody else or is no folder.
            DeviceError: one cannot be created.
        """
        own_folder(self.runtime, RUNTIME_VARIABLE)
        own_folder(self.state, STATE_VARIABLE)


def own_folder(path: Path, variable: str) -> None:
    """Create a folder of mode 0700, or make sure that one that is there is this user's alone.

    Raises:
        UsageError: it belongs to somebody else or is no folder.
        DeviceError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.stat()
        if found.st_uid != os.getuid():
            raise UsageError(f"{path} belongs to another user; set {variable} to a folder of your own.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path} is a file where a folder is needed; set {variable} to a folder.") from error
    except OSError as error:
        raise DeviceError(
            f"The folder {path} cannot be made ({error.strerror}); free space, or set {variable} to another one."
        ) from error
