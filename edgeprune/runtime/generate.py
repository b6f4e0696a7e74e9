"""Greedy generation: always the most likely token, so that two runtimes can be compared token by token."""

from collections.abc import Collection, Sequence

from edgeprune.runtime.decode import Decoder

__all__ = ["greedy"]


def greedy(decoder: Decoder, prompt: Sequence[int], count: int, *, stop: Collection[int] = ()) -> list[int]:
    """Continue a prompt by at most `count` tokens, from the decoder's current position.

    Ends early after a token of `stop`, which is part of the answer. Ties go to the lowest token id.
    """
    if count < 1:
        return []
    token = int(decoder.prefill(prompt).argmax())
    tokens = [token]
    while len(tokens) < count and token not in stop:
        token = int(decoder.step(token).argmax())
        tokens.append(token)
    return tokens
