"""Process of its own: `python -m edgeprune.validate.child_accuracy`, see `accuracy`."""

import msgspec

from edgeprune.runtime.isolate import answer
from edgeprune.validate.accuracy import ChoiceRequest, measure_accuracy

__all__ = ["handle"]


def handle(request: bytes) -> bytes:
    """Decode the request, answer the questions, encode the answer."""
    return msgspec.json.encode(measure_accuracy(msgspec.json.decode(request, type=ChoiceRequest)))


if __name__ == "__main__":
    answer(handle)
