"""How near documents come to others: whether they speak of the same thing, not whether they share a phrase.

A text that is split at random leaves documents about one subject on both sides, and a training that has learned a
subject by heart then looks better on the other side than it is. Near means sharing terms that few documents have: the
cosine between term counts, damped and weighted by rarity,

    w(t, d) = (1 + ln count(t, d)) ln(N / documents with t)                                              (1)

(Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval", section 3; the damped count is
Manning, Raghavan and Schuetze 2008, "Introduction to information retrieval", section 6.4.1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["nearest_similarity"]

_DOCUMENTS_AT_ONCE = 256


def nearest_similarity(documents: Sequence[Sequence[int]], others: Sequence[Sequence[int]], vocab_size: int) -> Tensor:
    """Cosine of each document with the one of `others` that it comes nearest to, by eq. (1).

    Args:
        documents: token ids of each.
        others: token ids of each of the documents they are compared with.
        vocab_size: ids are below it.

    Returns:
        [documents] float32 from 0 (nothing shared that is rare) to 1; 0 where there are no others.
    """
    if not documents or not others:
        return torch.zeros(len(documents))
    counts = _counts([*documents, *others], vocab_size)
    rows, columns = counts.indices()
    spread = torch.bincount(columns, minlength=vocab_size)
    rarity = torch.log((len(documents) + len(others)) / spread.clamp(min=1))
    weights = (1.0 + counts.values().log()) * rarity[columns]  # eq. (1)
    norms = torch.zeros(counts.shape[0]).index_add_(0, rows, weights.square()).sqrt().clamp(min=1e-12)
    unit = torch.sparse_coo_tensor(counts.indices(), weights / norms[rows], counts.shape, check_invariants=True)
    unit = unit.coalesce()
    mine = unit.index_select(0, torch.arange(len(documents)))
    yours = unit.index_select(0, torch.arange(len(documents), counts.shape[0]))
    found = []
    for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        part = torch.arange(start, min(start + _DOCUMENTS_AT_ONCE, len(documents)))
        similar = torch.sparse.mm(yours, mine.index_select(0, part).to_dense().T)
        found.append(similar.max(dim=0).values)
    return torch.cat(found)


def _counts(documents: Sequence[Sequence[int]], vocab_size: int) -> Tensor:
    """[documents, vocab] sparse float32, how often each has each token."""
    lengths = torch.tensor([len(document) for document in documents])
    rows = torch.repeat_interleave(torch.arange(len(documents)), lengths)
    tokens = torch.tensor([token for document in documents for token in document], dtype=torch.int64)
    ones = torch.ones(len(tokens))
    places = torch.stack([rows, tokens])
    return torch.sparse_coo_tensor(places, ones, (len(documents), vocab_size), check_invariants=True).coalesce()
