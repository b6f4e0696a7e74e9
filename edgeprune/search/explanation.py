"""`explain_recipe`: every choice of a recipe beside its alternatives, at the prices its limits charge."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.schema.candidate import Candidate
from edgeprune.schema.explanation import BlockExplanation, Choice, Explanation, LimitPrice
from edgeprune.schema.recipe import Drops, Recipe
from edgeprune.search.alternatives import Alternatives
from edgeprune.search.candidates import candidate
from edgeprune.search.departures import departures
from edgeprune.search.going_prices import GoingPrices, going_prices
from edgeprune.search.menu import Menu
from edgeprune.search.problem import Problem
from edgeprune.search.quantities import limited, predicted_verdict
from edgeprune.search.reasons import nats
from edgeprune.units import format_bytes, format_fraction, format_seconds

__all__ = ["explain_recipe"]

UNPREDICTED = ("loss", "general loss", "accuracy")


def explain_recipe(
    problem: Problem, recipe: Recipe, *, optimum: Candidate, source: str, device_name: str
) -> Explanation:
    """Explain a recipe that fits the model.

    Args:
        problem: what the search solved, with its limits and locks.
        recipe: what to explain, perhaps edited by hand.
        optimum: the search's own choice for the same problem.
        source: the file the recipe stands in.
        device_name: of the profile the prices are from.

    Raises:
        UsageError: a lock matches nothing.
    """
    menu = Menu(problem, [recipe, optimum.recipe])
    best, taken = menu.taken(optimum.recipe), menu.taken(recipe)
    going = None
    if best.depth is not None:
        going = going_prices(problem, menu.space, is_open=menu.is_open, optimum=best.columns(), depth_column=best.depth)
    scored = candidate(problem, recipe, "written", basis="as written")
    written = scored if scored is not None else _unscored(problem, recipe, optimum)
    limits = _limits(problem, written, going, is_scored=scored is not None)
    is_edited = taken != best
    options = Alternatives(menu, taken, going, limits, is_edited=is_edited)
    moved = departures(taken, best, options) if is_edited else ()
    return Explanation(
        source=source,
        recipe=recipe,
        device_name=device_name,
        context_tokens=problem.context_tokens,
        predicted=predicted_verdict(written, problem.budget) if scored is not None else "unmeasured",
        relative_loss=None if scored is None else scored.relative_loss,
        loss_increase_nats=None if scored is None else scored.loss_increase_nats,
        optimum_nats=optimum.loss_increase_nats,
        bound_nats=None if going is None else going.bound_nats,
        limits=limits,
        summary=_summary(problem, scored, optimum, going, limits, departure_count=len(moved), is_edited=is_edited),
        is_edited=is_edited,
        departures=moved,
        depth=options.depth(),
        tables=options.tables(),
        blocks=tuple(_block(problem, options, block.index) for block in problem.spec.blocks),
        locks=problem.locks,
    )


def _block(problem: Problem, options: Alternatives, index: int) -> BlockExplanation:
    drops = options.drops
    if index in drops.blocks:
        return BlockExplanation(
            index=index,
            is_dropped=True,
            loss_nats=None,
            disk_bytes=0,
            memory_bytes=0.0,
            decode_s=None,
            width=None,
            sentence=f"dropped: {options.depth_without(index)}",
        )
    width, groups = options.width(index), options.groups(index)
    block = next(block for block in problem.spec.blocks if block.index == index)
    sites = tuple(
        options.site(site.name)
        for site in block.sites
        if not (drops.lacks_mlp(index) if options.is_mlp(site.name) else drops.lacks_attention(index))
    )
    shapes = [choice for choice in (width, groups) if choice is not None]
    choices = (*shapes, *sites)
    # The figures of the width and of the groups hold those of their sites already.
    pieces = [
        *(choice.chosen for choice in shapes),
        *(site.chosen for site in sites if not options.is_inner(site.name)),
    ]
    losses = [piece.loss_nats for piece in pieces]
    known = [loss for loss in losses if loss is not None]
    times = [piece.decode_s for piece in pieces if piece.decode_s is not None]
    return BlockExplanation(
        index=index,
        is_dropped=False,
        loss_nats=sum(known) if len(known) == len(losses) else None,
        disk_bytes=sum(piece.disk_bytes or 0 for piece in pieces),
        memory_bytes=sum(piece.memory_bytes or 0.0 for piece in pieces),
        decode_s=sum(times) if len(times) == len(pieces) else None,
        width=width,
        groups=groups,
        sites=sites,
        sentence=f"{_kept(drops, index)}: {options.depth_without(index)}. {_closest_call(choices)}",
    )


def _kept(drops: Drops, block: int) -> str:
    if drops.lacks_attention(block):
        return "its MLP alone is kept"
    return "its attention alone is kept" if drops.lacks_mlp(block) else "kept"


def _closest_call(choices: Sequence[Choice]) -> str:
    """The sentence of the choice that was decided by the least."""
    known = [
        (choice.alternatives[0].margin_nats, position)
        for position, choice in enumerate(choices)
        if choice.alternatives
        and choice.alternatives[0].standing == "open"
        and choice.alternatives[0].margin_nats is not None
    ]
    if not known:
        return ""
    choice = choices[min(known)[1]]
    return f"Closest call, {choice.name}: {choice.sentence}"


def _limits(
    problem: Problem, written: Candidate, going: GoingPrices | None, *, is_scored: bool
) -> tuple[LimitPrice, ...]:
    found = []
    for quantity, limit in limited(problem.budget):
        price = None if going is None else going.per_unit.get(quantity.name, 0.0)
        if price is not None and quantity.name == "general loss" and problem.general_model is not None:
            price *= problem.general_model.dense_loss_nats  # the row counts nats, the limit is relative
        if quantity.name in ("loss", "accuracy"):
            price = None  # what it allows is loss itself
        can_tell = is_scored or quantity.name not in UNPREDICTED
        predicted = quantity.predicted(written) if can_tell else None
        found.append(LimitPrice(quantity=quantity.name, limit=limit, predicted=predicted, nats_per_unit=price))
    named = {entry.quantity for entry in found}
    for name, price in (going.per_unit if going is not None else {}).items():
        if name not in named:
            predicted = written.cost.peak_rss_bytes.high if name == "memory" else written.cost.decode_s.high
            found.append(LimitPrice(quantity=name, limit=None, predicted=predicted, nats_per_unit=price))
    return tuple(found)


def _summary(
    problem: Problem,
    scored: Candidate | None,
    optimum: Candidate,
    going: GoingPrices | None,
    limits: tuple[LimitPrice, ...],
    *,
    departure_count: int,
    is_edited: bool,
) -> tuple[str, ...]:
    lines = []
    own = optimum.cost
    if is_edited and scored is None:
        lines.append(
            f"Written by hand: {departure_count} departures from the search's choice; one of them was never scored, "
            "so the loss cannot be predicted."
        )
    elif is_edited and scored is not None:
        more = scored.loss_increase_nats - optimum.loss_increase_nats
        cost = scored.cost
        lines.append(
            f"Written by hand: {departure_count} departures from the search's choice; predicted to lose "
            f"{nats(abs(more))} {'more' if more >= 0 else 'less'}, and to take "
            f"{_signed(cost.disk_bytes - own.disk_bytes, format_bytes)} of disk, "
            f"{_signed(_less(cost.peak_rss_bytes.high, own.peak_rss_bytes.high), format_bytes)} of memory and "
            f"{_signed(_less(cost.decode_s.high, own.decode_s.high), format_seconds)} a token."
        )
        missed = [
            quantity.name
            for quantity, limit in limited(problem.budget)
            if (value := quantity.predicted(scored)) is not None and quantity.is_exceeded(value, limit)
        ]
        if missed:
            lines.append(f"As written it is predicted to miss the limit on {' and '.join(missed)}.")
    else:
        measured = optimum.measured_relative_loss
        built = "" if measured is None else f" It was built, and measured to lose {format_fraction(measured)}."
        lines.append(f"This is the search's own choice.{built}")
    if going is None:
        lines.append("No prices could be told at its optimum, so alternatives are compared by loss alone.")
        return tuple(lines)
    binding = [entry.quantity for entry in limits if entry.nats_per_unit]
    if not binding:
        lines.append("With these blocks no limit binds: every other choice is the one that loses least.")
    else:
        lines.append(f"What binds: {' and '.join(binding)}; prices are what one unit more would save.")
    if going.bound_nats is not None and optimum.basis.startswith("exact"):
        lines.append(
            f"The search's choice loses {nats(optimum.loss_increase_nats)} a token "
            f"({format_fraction(optimum.relative_loss)}); with the same blocks nothing within the limits loses less "
            f"than {nats(max(0.0, going.bound_nats))}."
        )
    return tuple(lines)


def _unscored(problem: Problem, recipe: Recipe, optimum: Candidate) -> Candidate:
    """Costs of a recipe whose loss cannot be predicted; the losses in it are not to be read."""
    return replace(optimum, label="written", recipe=recipe, cost=problem.cost_model.cost(recipe), optimality_gap=None)


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _signed(value: float | None, show: object) -> str:
    assert callable(show)
    if value is None:
        return "n/a"
    return f"{'+' if value >= 0 else '-'}{show(abs(value))}"
