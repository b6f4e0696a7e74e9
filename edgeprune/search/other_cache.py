"""The choices of a search with keys and values cached in another number of bits: the same columns at other prices.

Only what an attention costs beside its sites follows the cache, and within a group of sites it is the same for every
column, so that no other option is beaten than before.
"""

import dataclasses

from edgeprune.search.joint_price import JointPrice
from edgeprune.search.problem import Price, Problem
from edgeprune.search.space import Column, Space
from edgeprune.shapes import attention_only, with_groups

__all__ = ["with_cache_of"]


def with_cache_of(problem: Problem, space: Space, before: Problem) -> Space:
    """The space of a problem that differs from the one before in the bits of its cache alone.

    Args:
        problem: with the other cache.
        space: of the one before.
        before: the other.
    """
    prices: dict[int, Price] = {}
    counts = {column.groups for column in space.columns if column.groups is not None}
    for block, other in zip(before.spec.blocks, problem.spec.blocks, strict=True):
        for kept in {None, *(count for index, count in counts if index == block.index)}:
            old, new = (
                each.cost_model.block_price(attention_only(each.spec, with_groups(half, kept)))
                for each, half in ((before, block), (problem, other))
            )
            prices[id(old)] = new
    joints: dict[int, JointPrice] = {}

    def priced(column: Column) -> Column:
        price = column.price
        if isinstance(price, JointPrice) and id(price.second) in prices:
            if id(price) not in joints:
                joints[id(price)] = JointPrice(price.first, prices[id(price.second)])
            return dataclasses.replace(column, price=joints[id(price)])
        if column.groups is not None:
            return dataclasses.replace(column, price=prices[id(price)])
        return column

    columns = tuple(map(priced, space.columns))
    found = {id(column.price): column.price for column in columns if column.price is not None}.values()
    has_time = all(price.decode_high_s(0.0) is not None for price in found)
    return dataclasses.replace(space, columns=columns, has_time=has_time)
