"""What may have disturbed a measurement: frequency governor, temperature, throttling and load.

Read from Linux's tables before and after measuring. What the system does not tell is None, never "fine".
"""

import os
from pathlib import Path

from edgeprune.runtime.cgroup import read_number
from edgeprune.schema.device import Conditions

__all__ = ["disturbances", "read_conditions"]

_SYS = Path("/sys")

_UNDER_VOLTAGE_OR_THROTTLED = 0x0000_000F
"""Raspberry Pi firmware, `get_throttled`: bits 0 to 3 are under-voltage, capped, throttled and soft limit, now."""

_HOT_TYPES = ("x86_pkg_temp", "cpu", "soc", "core", "acpitz")


def read_conditions(*, sys: Path = _SYS) -> Conditions:
    """The conditions now."""
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):
        load = None
    return Conditions(
        governor=_governor(sys), temperature_c=_temperature(sys), is_throttled=_is_throttled(sys), load_1min=load
    )


def disturbances(before: Conditions, after: Conditions, *, usable_core_count: int) -> tuple[str, ...]:
    """Sentences on what makes the measurement doubtful; empty when nothing is known to."""
    found = []
    if before.load_1min is not None and before.load_1min > 0.5 * usable_core_count:
        found.append(
            f"Other programs were running (load {before.load_1min:.1f}, {usable_core_count} cores): times may be long."
        )
    if after.is_throttled:
        found.append("The processor was throttled at the end: times are those of a hot or under-powered device.")
    if after.governor in ("powersave", "conservative") and before.governor == after.governor:
        found.append(f"The frequency governor is {after.governor}: clocks may rise late.")
    return tuple(found)


def _governor(sys: Path) -> str | None:
    """Governor of all cores; several are listed with commas."""
    names = set()
    for path in sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            names.add(path.read_text(encoding="ascii", errors="replace").strip())
        except OSError:
            continue
    return ",".join(sorted(names - {""})) or None


def _temperature(sys: Path) -> float | None:
    """Hottest thermal zone of the processor, or of any kind where none names the processor."""
    named: list[float] = []
    others: list[float] = []
    for zone in sys.glob("class/thermal/thermal_zone[0-9]*"):
        value = read_number(zone / "temp")
        # Zones that are switched off report 0 or nonsense such as -274000.
        if value is None or not 0 < value < 150_000:
            continue
        try:
            kind = (zone / "type").read_text(encoding="ascii", errors="replace").strip().lower()
        except OSError:
            kind = ""
        (named if any(word in kind for word in _HOT_TYPES) else others).append(value / 1000.0)
    return max(named or others, default=None)


def _is_throttled(sys: Path) -> bool | None:
    """Raspberry Pi: its firmware says so. Elsewhere: a core's ceiling lies below what its hardware can do."""
    for path in sys.glob("devices/platform/soc*/soc*firmware/get_throttled"):
        try:
            return bool(int(path.read_text(encoding="ascii").strip(), 16) & _UNDER_VOLTAGE_OR_THROTTLED)
        except (OSError, ValueError):
            continue
    known = False
    for folder in sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq"):
        ceiling, most = read_number(folder / "scaling_max_freq"), read_number(folder / "cpuinfo_max_freq")
        if ceiling is None or most is None:
            continue
        known = True
        if ceiling < most:
            return True
    return False if known else None
