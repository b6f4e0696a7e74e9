"""The systemd unit, and what is said of lingering."""

import configparser
import shlex
import sys
from pathlib import Path

import pytest

from edgeprune.jobs.unit import linger_remark, unit_text


def test_the_unit_starts_this_python_and_keeps_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPRUNE_STATE_DIR", "/data/50% full")
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    text = unit_text()
    parser.read_string(text)
    assert shlex.split(parser["Service"]["ExecStart"]) == [sys.executable, "-m", "edgeprune.jobs.daemon"]
    assert 'Environment="EDGEPRUNE_STATE_DIR=/data/50%% full"' in text
    assert parser["Install"]["WantedBy"] == "default.target"


def test_lingering_is_told(tmp_path: Path) -> None:
    booted, linger = tmp_path / "system", tmp_path / "linger"
    assert "systemd does not run here" in linger_remark(booted=booted, linger=linger, user="ann")
    booted.mkdir()
    linger.mkdir()
    assert "jobs end at logout; `loginctl enable-linger ann`" in linger_remark(booted=booted, linger=linger, user="ann")
    (linger / "ann").touch()
    assert "Lingering is on for ann" in linger_remark(booted=booted, linger=linger, user="ann")
