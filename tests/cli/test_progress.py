"""Where lines stay (a log, a pipe), a long stage says once a minute how far it is."""

import pytest

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.schema.events import Event


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.emit(Event(kind="stage_started", stage="calibrate", time_s=1000.0))
    for second in range(1, 151):
        message = f"{second} of 150 windows"
        done = second / 150
        event = Event(
            kind="stage_advanced", stage="calibrate", message=message, done_fraction=done, time_s=1000.0 + second
        )
        progress.emit(event)
    progress.emit(Event(kind="stage_finished", stage="calibrate", message="150 windows", time_s=1150.0))
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "calibrate ...",
        "calibrate  40%  60 of 150 windows",
        "calibrate  80%  120 of 150 windows",
        "calibrate: 150 windows (2 min 30 s)",
    ]
