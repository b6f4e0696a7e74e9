"""A systemd user unit for the daemon, and what stands in the way of jobs that outlive a login."""

import getpass
import os
import shlex
import sys
from pathlib import Path

from edgeprune.jobs.places import RUNTIME_VARIABLE, STATE_VARIABLE
from edgeprune.runtime.isolate import child_environment

__all__ = ["UNIT_NAME", "linger_remark", "unit_text"]

UNIT_NAME = "edgeprune.service"

_UNIT = """\
[Unit]
Description=EdgePrune: queue of jobs

[Service]
ExecStart={command}
{environment}Restart=on-failure
# 2, 4 and 5 are sentences that a restart does not mend.
RestartPreventExitStatus=2 4 5
KillMode=mixed
TimeoutStopSec=30

[Install]
WantedBy=default.target
"""

_LINGER = Path("/var/lib/systemd/linger")
_BOOTED = Path("/run/systemd/system")


def unit_text() -> str:
    """The unit file, for `~/.config/systemd/user/edgeprune.service`."""
    wanted = {name: os.environ[name] for name in (RUNTIME_VARIABLE, STATE_VARIABLE) if name in os.environ}
    path = child_environment(None).get("PYTHONPATH")
    if path is not None:
        wanted["PYTHONPATH"] = path
    environment = "".join(f'Environment="{name}={_escaped(value)}"\n' for name, value in wanted.items())
    command = f"{_escaped(shlex.quote(sys.executable))} -m edgeprune.jobs.daemon"
    return _UNIT.format(command=command, environment=environment)


def linger_remark(*, booted: Path = _BOOTED, linger: Path = _LINGER, user: str | None = None) -> str:
    """Whether jobs end at logout, in a sentence with the command that changes it."""
    name = user or getpass.getuser()
    if not booted.is_dir():
        return "systemd does not run here, so the unit is of no use; `edgeprune daemon start` works without it."
    if (linger / name).exists():
        return f"Lingering is on for {name}: jobs go on after logout."
    return f"Lingering is off for {name}, so jobs end at logout; `loginctl enable-linger {name}` turns it on."


def _escaped(text: str) -> str:
    """For a unit file, where % begins a specifier."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
