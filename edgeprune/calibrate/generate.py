"""General text that the model writes itself, so that no corpus need ship with the tool.

Sampled at temperature 1 from the beginning-of-sequence token with a fixed seed (self-calibration, arXiv 2410.17170):
it is a draw from what the model knows at large, against which a domain can be compared. The same seed, model and
library versions give the same text.
"""

import torch
from torch import Tensor
from transformers import DynamicCache

from edgeprune.calibrate.corpus import separator_token
from edgeprune.calibrate.loss import hidden_states
from edgeprune.intake.adapters.logit_cap import bend
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, NullProgress, Progress

__all__ = ["generate_documents"]

_DOCUMENTS = 48
_DOCUMENT_TOKENS = 128
"""Many short samples: half the steps of 24 samples of 256 tokens, and shorter caches to read in each."""
_DOCUMENTS_AT_ONCE = 16
"""48 at once are a quarter faster but their growing caches leave 400 MB of scattered memory behind, 16 leave 100."""


@torch.no_grad()
def generate_documents(
    loaded: LoadedModel,
    *,
    seed: int,
    document_count: int = _DOCUMENTS,
    document_tokens: int = _DOCUMENT_TOKENS,
    progress: Progress | None = None,
) -> list[str]:
    """Text of `document_count` samples of `document_tokens` tokens, blank ones left out."""
    watch = progress or NullProgress()
    generator = torch.Generator().manual_seed(seed)
    length = min(document_tokens, loaded.spec.max_positions - 1)
    texts: list[str] = []
    for start in range(0, document_count, _DOCUMENTS_AT_ONCE):
        count = min(_DOCUMENTS_AT_ONCE, document_count - start)
        rows = _sample(loaded, count, length, generator, watch)
        texts += [loaded.tokenizer.decode(row, skip_special_tokens=True) for row in rows.tolist()]
        done = start + count
        watch.emit(Event(kind="stage_advanced", stage="calibrate", message=f"the model wrote {done} general documents"))
    return [text for text in texts if text.strip()]


def _sample(loaded: LoadedModel, count: int, length: int, generator: torch.Generator, watch: Progress) -> Tensor:
    """[count, length] int64 token ids."""
    head, cap = loaded.adapter.head(loaded.model), loaded.adapter.logit_cap(loaded.model)
    known = loaded.tokenizer.get_vocab_size(with_added_tokens=True)
    cache = DynamicCache()
    current = torch.full((count, 1), separator_token(loaded.spec) or 0, dtype=torch.long)
    drawn: list[Tensor] = []
    for _ in range(length):
        watch.raise_if_cancelled()
        logits = bend(head(hidden_states(loaded, current, cache=cache)[:, -1]), cap)
        # Rows of a padded table stand for no token.
        probabilities = logits[:, :known].double().softmax(dim=1)
        current = torch.multinomial(probabilities, 1, generator=generator)
        drawn.append(current)
    return torch.cat(drawn, dim=1)
