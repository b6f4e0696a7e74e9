"""`Holds`: which options locks leave, for every site, block and table of one model.

Patterns are matched against the dense model's names, so a lock on a site of a block that is dropped holds nothing. A
pattern that matches nothing, an action that does not apply to what it matches, and locks that leave no option are
refused with the patterns' own text.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from edgeprune.errors import UsageError
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.lock import Lock, read_bound
from edgeprune.schema.model import MLP_ROLES, SITE_FORMS, ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Drops, SiteEdit

__all__ = ["Holds", "refusal"]

WHOLE = ("table", "vocabulary", "depth")
BLOCK_ACTIONS = ("keep", "drop")

_RANGE = re.compile(r"(blocks?\.)(\d+)-(\d+)(\..*)?")


class Holds:
    """Locks, resolved against a model."""

    def __init__(self, spec: ModelSpec, locks: Sequence[Lock]) -> None:
        """Match every pattern.

        Raises:
            UsageError: a pattern matches nothing, or its action does not apply to what it matches.
        """
        self._spec = spec
        self._sites: dict[str, list[Lock]] = {site.name: [] for block in spec.blocks for site in block.sites}
        self._blocks: dict[int, list[Lock]] = {block.index: [] for block in spec.blocks}
        self._whole: dict[str, list[Lock]] = {name: [] for name in WHOLE}
        self._groups: dict[int, list[Lock]] = {block.index: [] for block in spec.blocks}
        self._attention = {
            site.name: block.index for block in spec.blocks for site in block.sites if site.role not in MLP_ROLES
        }
        self._mlp = {site.name: block.index for block in spec.blocks for site in block.sites if site.role in MLP_ROLES}
        for lock in locks:
            self._match(lock)
        self._check_blocks()

    def of_site(self, name: str) -> tuple[Lock, ...]:
        """Locks on a site."""
        return tuple(self._sites[name])

    def of_block(self, index: int) -> tuple[Lock, ...]:
        """Locks on whether a block stays and how many channels it keeps."""
        return tuple(self._blocks[index])

    def of_groups(self, index: int) -> tuple[Lock, ...]:
        """Locks on how many key-value groups a block keeps."""
        return tuple(self._groups[index])

    def of_whole(self, name: str) -> tuple[Lock, ...]:
        """Locks on `table`, `vocabulary` or `depth`; `depth` has those that keep or drop single blocks too."""
        single = [lock for locks in self._blocks.values() for lock in locks if lock.action in BLOCK_ACTIONS]
        return tuple(dict.fromkeys([*self._whole[name], *(single if name == "depth" else [])]))

    def allows_site(self, site: SiteSpec, edit: SiteEdit) -> bool:
        """Whether a site, perhaps narrowed, may take this form."""
        full = min(site.in_features, site.out_features)
        return all(
            edit.rank is None or edit.form == lock.action
            if lock.action in SITE_FORMS
            else _allows_form(lock.action, edit.rank, edit.kernel, full)
            for lock in self._sites[site.name]
        )

    def names_form(self, name: str, form: SiteForm) -> bool:
        """Whether a lock holds the ranks of a site to that form."""
        return any(lock.action == form for lock in self._sites[name])

    def allows_channels(self, block: int, kept: int | None, width: int) -> bool:
        """Whether a block may keep that many of `width` channels (None: all)."""
        return all(
            kept is None if lock.action == "dense" else _within(lock.action, "channels", kept, width)
            for lock in self._blocks[block]
        )

    def allows_groups(self, block: int, kept: int | None, count: int) -> bool:
        """Whether a block may keep that many of `count` key-value groups (None: all)."""
        return all(
            kept is None if lock.action == "dense" else _within(lock.action, "groups", kept, count)
            for lock in self._groups[block]
        )

    def allows_tokens(self, kept: int | None) -> bool:
        """Whether that many tokens may stay (None: all)."""
        return all(
            kept is None if lock.action == "none" else _within(lock.action, "tokens", kept, self._spec.vocab_size)
            for lock in self._whole["vocabulary"]
        )

    def allows_table(self, kernel: str) -> bool:
        """Whether embedding and head may be stored under a kernel."""
        return all(_allows_form(lock.action, None, kernel, 0) for lock in self._whole["table"])

    def allows_depth(self, drops: Drops) -> bool:
        """Whether exactly these blocks and halves may be dropped; a block that is kept keeps both halves."""
        touched = {*drops.blocks, *drops.attention, *drops.mlp}
        return not (touched and self._whole["depth"]) and all(
            (lock.action != "keep" or index not in touched) and (lock.action != "drop" or index in drops.blocks)
            for index, locks in self._blocks.items()
            for lock in locks
        )

    def ranks(self, site: SiteSpec) -> list[int]:
        """Ranks named by locks on a site, which its menu must have besides its ladder."""
        full = min(site.in_features, site.out_features)
        return [rank for rank in _named(self._sites[site.name], "rank") if 1 <= rank < full]

    def channel_counts(self, block: int) -> list[int]:
        """Channel counts named by locks on a block."""
        return _named(self._blocks[block], "channels")

    def group_counts(self, block: int) -> list[int]:
        """Numbers of key-value groups named by locks on a block."""
        return _named(self._groups[block], "groups")

    def token_counts(self) -> list[int]:
        """Vocabulary sizes named by locks."""
        return _named(self._whole["vocabulary"], "tokens")

    def _match(self, lock: Lock) -> None:
        if lock.pattern in WHOLE:
            self._whole[lock.pattern].append(_checked_whole(lock))
            return
        patterns = _expanded(lock.pattern)
        sites = [name for name in self._sites if any(fnmatchcase(name, pattern) for pattern in patterns)]
        blocks = [index for index in self._blocks if any(fnmatchcase(f"blocks.{index}", part) for part in patterns)]
        if not sites and not blocks:
            names = [*self._sites, *(f"block.{index}" for index in self._blocks), *WHOLE]
            nearest = ", ".join(difflib.get_close_matches(lock.pattern, names, n=3, cutoff=0.0))
            raise UsageError(f"--lock '{lock}': the model has nothing called {lock.pattern!r}; nearest are {nearest}.")
        bound = read_bound(lock.action)
        if lock.action == "none" or (bound is not None and bound[0] == "tokens"):
            target = "vocabulary or depth" if lock.action == "none" else "vocabulary"
            raise UsageError(f"--lock '{lock}': {lock.action} is for {target}, not for sites or blocks.")
        if lock.action in BLOCK_ACTIONS or (bound is not None and bound[0] in ("channels", "groups")):
            is_groups = bound is not None and bound[0] == "groups"
            owner = self._attention if is_groups else self._mlp
            named = blocks or sorted({owner[name] for name in sites if name in owner and bound is not None})
            if not named:
                raise UsageError(
                    f"--lock '{lock}': {lock.action} is for whole blocks; write such as block.3={lock.action}."
                )
            for index in named:
                (self._groups if is_groups else self._blocks)[index].append(lock)
            return
        held = [name for name in self._sites if name in sites or int(name.split(".")[1]) in blocks]
        for name in held:
            self._sites[name].append(lock)
        if lock.action == "dense":
            for owner, holds in ((self._mlp, self._blocks), (self._attention, self._groups)):
                for index in sorted({owner[name] for name in held if name in owner}):
                    holds[index].append(lock)

    def _check_blocks(self) -> None:
        """Refuse keep beside drop, and dropping with depth off; what was not scored is known only to the search."""
        for index, locks in self._blocks.items():
            drops = [lock for lock in locks if lock.action == "drop"]
            against = [lock for lock in locks if lock.action == "keep"] + self._whole["depth"]
            if drops and against:
                raise UsageError(f"--lock '{drops[0]}' and '{against[0]}' contradict each other at block {index}.")


def refusal(locks: Sequence[Lock], what: str, available: Sequence[str]) -> UsageError:
    """The error for locks that leave nothing of a menu."""
    if not locks:
        return UsageError(f"No option for {what} was scored; calibrate this model again.")
    named = " and ".join(f"'{lock}'" for lock in locks)
    menu = ", ".join(available) or "nothing"
    verb = "leaves" if len(locks) == 1 else "together leave"
    return UsageError(f"--lock {named} {verb} no option for {what}; without it there is {menu}.")


def _expanded(pattern: str) -> list[str]:
    """`block.0-2.q` as `blocks.0.q`, `blocks.1.q`, `blocks.2.q`; other patterns with `block` written `blocks`."""
    match = _RANGE.fullmatch(pattern)
    if match is None:
        return [re.sub(r"^block\.", "blocks.", pattern)]
    first, last = int(match.group(2)), int(match.group(3))
    return [f"blocks.{index}{match.group(4) or ''}" for index in range(first, min(last, first + 9999) + 1)]


def _checked_whole(lock: Lock) -> Lock:
    bound = read_bound(lock.action)
    fits = {
        "depth": lock.action == "none",
        "vocabulary": lock.action == "none" or (bound is not None and bound[0] == "tokens"),
        "table": bound is None and lock.action not in ("dense", "none", *SITE_FORMS, *BLOCK_ACTIONS),
    }
    if not fits[lock.pattern]:
        takes = {"depth": "none", "vocabulary": "none or tokens=N", "table": "a kernel, int8 or int4"}
        raise UsageError(f"--lock '{lock}': {lock.pattern} takes {takes[lock.pattern]}.")
    return lock


def _allows_form(action: str, rank: int | None, kernel: str, full: int) -> bool:
    if action == "dense":
        return rank is None
    bound = read_bound(action)
    if bound is not None:
        return _within(action, "rank", rank, full)
    if action in ("int4", "int8"):
        return parse_kernel(kernel).bits == int(action[3:])
    return kernel == action


def _within(action: str, what: str, value: int | None, full: int) -> bool:
    """Whether a count keeps a bound on it; None stands for all of `full`, which no lower bound refuses."""
    bound = read_bound(action)
    if bound is None or bound[0] != what:
        return True
    _, sign, number = bound
    actual = full if value is None else value
    if sign == "=":
        return actual == number
    return actual <= number if sign == "<=" else value is None or actual >= number


def _named(locks: Iterable[Lock], what: str) -> list[int]:
    bounds = [read_bound(lock.action) for lock in locks]
    return sorted({bound[2] for bound in bounds if bound is not None and bound[0] == what})
