"""Which sites keep few values a head, and that they fit each other.

v in the form `head_rows` and o in the form `head_columns` belong together: attention hands each query head's mixture of
the values of its key-value head on, so o reads as many numbers of every head as v has left.
"""

from collections.abc import Mapping, Sequence

from edgeprune.errors import RecipeError
from edgeprune.schema.model import BlockSpec, SiteForm, SiteRole, SiteSpec, site_name
from edgeprune.schema.recipe import SiteEdit

__all__ = ["HEAD_FORMS", "check_heads"]

HEAD_FORMS: dict[SiteForm, SiteRole] = {"head_rows": "v", "head_columns": "o"}
"""Form -> the role of the sites that may have it."""


def check_heads(block: BlockSpec, sites: Sequence[SiteSpec], edits: Mapping[str, tuple[int, SiteEdit]]) -> None:
    """Both sites of a block, or neither, with as many numbers of every head.

    Args:
        block: with the heads it has left.
        sites: of the block as edited.
        edits: site name -> its place in the recipe, and its edit.

    Raises:
        RecipeError: names the entry.
    """
    few = {site.form: site for site in sites if site.rank is not None and site.form in HEAD_FORMS}
    for form, site in few.items():
        position, edit = edits[site.name]
        where, place = f"recipe site {site.name}", ("sites", position)
        role = HEAD_FORMS[form]
        if site.role != role:
            message = f"{where}: form {form} is for {role} alone; use form factors or pivot here."
            raise RecipeError(message, *place, "form")
        other = next(each for each in HEAD_FORMS if each != form)
        partner = few.get(other)
        if partner is None:
            raise RecipeError(
                f"{where}: form {form} needs {site_name(block.index, HEAD_FORMS[other])} in the form {other} beside "
                "it; add that site, or use form factors or pivot here.",
                *place,
                "form",
            )
        if edit.method != "lowrank":
            message = f"{where}: form {form} is made by the method lowrank, not {edit.method}; write lowrank here."
            raise RecipeError(message, *place, "method")
        heads = block.num_kv_heads if form == "head_rows" else block.num_heads
        assert site.rank is not None
        if site.rank % heads:
            message = f"{where}: rank {site.rank} does not divide into {heads} heads; give a multiple of {heads}."
            raise RecipeError(message, *place, "rank")
    if len(few) == len(HEAD_FORMS):
        values, outputs = few["head_rows"], few["head_columns"]
        assert values.rank is not None
        wanted = values.rank // block.num_kv_heads * block.num_heads
        if outputs.rank != wanted:
            raise RecipeError(
                f"recipe site {outputs.name}: rank {outputs.rank} is not that of the {block.num_heads} heads which "
                f"read the values of {values.name}, rank {values.rank}; write {wanted} here.",
                *("sites", edits[outputs.name][0], "rank"),
            )
