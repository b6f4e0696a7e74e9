"""The flags of a recovery, and what they are parsed into."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec import convert

from edgeprune.errors import UsageError
from edgeprune.schema.recovery import RECOVERY_MODES, RecoveryMode, RecoveryRequest

__all__ = ["recover_options"]

F = TypeVar("F", bound=Callable[..., Any])

_MINUTES = click.option(
    "--recover-minutes",
    type=float,
    metavar="N",
    help="Train the compressed model for about N minutes on the calibration text, before its weights are rounded.",
)
_MODE = click.option(
    "--recover-mode",
    type=click.Choice(RECOVERY_MODES),
    help="blockwise: each block alone; distill: the whole model; lora: adapters, merged; auto (default): the dense "
    "model before it is cut, then blocks, then the whole.",
)


def recover_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a recovery; the verb gets them as `recovery`, a `RecoveryRequest`, or None without the minutes.

    Raises:
        UsageError: (when the verb is called) no time to train, or a mode without minutes.
    """

    @functools.wraps(function)
    def with_recovery(*args: Any, **values: Any) -> Any:
        minutes, mode = values.pop("recover_minutes"), values.pop("recover_mode")
        return function(*args, recovery=_request(minutes, mode), **values)

    return _MINUTES(_MODE(with_recovery))


def _request(minutes: float | None, mode: str | None) -> RecoveryRequest | None:
    if minutes is None:
        if mode is not None:
            raise UsageError(f"--recover-mode {mode} needs --recover-minutes N beside it.")
        return None
    if not 0.0 < minutes < float("inf"):
        raise UsageError(f"--recover-minutes {minutes:g} is no time to train; give more than 0.")
    return RecoveryRequest(minutes=minutes, mode=convert(mode or "auto", RecoveryMode))
