"""Process of its own: `python -m edgeprune.validate.child_text`, see `text`."""

import msgspec

from edgeprune.runtime.isolate import answer
from edgeprune.validate.text import TextRequest, measure_text

__all__ = ["handle"]


def handle(request: bytes) -> bytes:
    """Decode the request, score, encode the answer."""
    return msgspec.json.encode(measure_text(msgspec.json.decode(request, type=TextRequest)))


if __name__ == "__main__":
    answer(handle)
