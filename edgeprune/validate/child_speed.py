"""Process of its own: `python -m edgeprune.validate.child_speed`, see `latency`."""

import msgspec

from edgeprune.runtime.isolate import answer
from edgeprune.validate.latency import SpeedRequest, measure_speed

__all__ = ["handle"]


def handle(request: bytes) -> bytes:
    """Decode the request, measure, encode the answer."""
    return msgspec.json.encode(measure_speed(msgspec.json.decode(request, type=SpeedRequest)))


if __name__ == "__main__":
    answer(handle)
