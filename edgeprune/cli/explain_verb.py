"""`edgeprune explain RECIPE|RUN`: for every choice the alternatives, their prices, and why the chosen one was taken."""

from pathlib import Path

import click
from msgspec.structs import replace

from edgeprune.cli.explain_text import block_text, choice_text, overview_text
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.errors import UsageError
from edgeprune.schema.explanation import Choice, Explanation

__all__ = ["command"]


@click.command("explain")
@click.argument("source", metavar="RECIPE|RUN", type=click.Path(path_type=Path))
@click.option("--run", "run_folder", type=click.Path(path_type=Path), help="The run a recipe elsewhere is for.")
@click.option("--block", type=int, help="One block, with every alternative.")
@click.option("--site", help="One choice: a site such as blocks.3.q, `block.3 width`, `tables` or `depth`.")
@json_option
def command(source: Path, run_folder: Path | None, block: int | None, site: str | None, as_json: bool) -> int:
    """Say why a recipe is what it is, and what each alternative would cost.

    A limit that binds has a price: the loss one unit more of it would save. Each alternative is its predicted loss plus
    what it takes at those prices. A recipe edited by hand is compared with the search's own choice.
    """
    from edgeprune import api

    explanation = api.explain(source, run=run_folder)
    if block is not None:
        explanation = _only_block(explanation, block)
    choice = None if site is None else _choice(explanation, site)
    if choice is not None:
        explanation = _only_choice(explanation, choice)
    if as_json:
        write_record_json(explanation)
    elif choice is not None:
        write_text(choice_text(choice))
    elif block is not None:
        write_text(block_text(explanation.blocks[0], is_full=True))
    else:
        write_text(overview_text(explanation))
    return 0


def _only_block(explanation: Explanation, index: int) -> Explanation:
    blocks = tuple(block for block in explanation.blocks if block.index == index)
    if not blocks:
        last = explanation.blocks[-1].index
        raise UsageError(f"--block {index}: the model has no such block; it has blocks 0..{last}.")
    return replace(explanation, blocks=blocks)


def _only_choice(explanation: Explanation, choice: Choice) -> Explanation:
    """Without the other sites, and without the blocks that do not hold the choice."""
    blocks = tuple(
        replace(block, sites=tuple(site for site in block.sites if site == choice))
        for block in explanation.blocks
        if choice == block.width or choice in block.sites
    )
    return replace(explanation, blocks=blocks)


def _choice(explanation: Explanation, name: str) -> Choice:
    choices = {choice.name: choice for choice in (explanation.depth, explanation.tables)}
    for block in explanation.blocks:
        if block.width is not None:
            choices[block.width.name] = block.width
        choices |= {choice.name: choice for choice in block.sites}
    if name not in choices:
        import difflib  # only a mistyped name needs it

        nearest = ", ".join(difflib.get_close_matches(name, choices, n=3, cutoff=0.0))
        raise UsageError(
            f"--site {name!r}: the recipe has no such choice (dropped blocks have none); nearest: {nearest}."
        )
    return choices[name]
