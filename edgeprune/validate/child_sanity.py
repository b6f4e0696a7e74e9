"""Process of its own: `python -m edgeprune.validate.child_sanity`, see `sanity`."""

import msgspec

from edgeprune.runtime.isolate import answer
from edgeprune.validate.sanity import SanityRequest, measure_sanity

__all__ = ["handle"]


def handle(request: bytes) -> bytes:
    """Decode the request, generate, encode the answer."""
    return msgspec.json.encode(measure_sanity(msgspec.json.decode(request, type=SanityRequest)))


if __name__ == "__main__":
    answer(handle)
