"""The demo world's facts: entities with typed attributes, and how often each fact is told.

An entity (a drug, a statute, a company, a town) has one value for each attribute of its kind. The facts of a domain
are ranked, and the fact of rank r is told with weight 1 / r (Zipf), so a few are told constantly and most seldom.
"""

import itertools
from dataclasses import dataclass, field
from functools import lru_cache

from edgeprune.demo import lexicon
from edgeprune.demo.attributes import ATTRIBUTES, Attribute
from edgeprune.demo.grammar import Draw
from edgeprune.demo.names import NameMaker
from edgeprune.demo.paths import DEMO_DOMAINS

__all__ = ["DomainFacts", "Entity", "Fact", "FactTable", "build_fact_table"]

ENTITY_COUNTS = {"law": 150, "medicine": 150, "finance": 150, "general": 60}
"""Entities of each domain's kind."""

FREQUENT_FRACTION = 0.15
"""Facts of a lower rank than this fraction of their domain's facts are called frequent."""

RARE_FRACTION = 0.5
"""Facts of a higher rank than this fraction of their domain's facts are called rare."""


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A named thing with one value per attribute of its kind."""

    name: str
    """Unique within the world."""
    rank: int
    """Order of importance within the domain, 0 first."""
    values: dict[str, str]
    """Value by attribute name."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One value of one entity."""

    entity: Entity
    """Whom the fact is about."""
    attribute: Attribute
    """What kind of fact it is."""
    rank: int
    """Place in the domain's order of frequency, 0 first."""
    group: str
    """`frequent`, `middle` or `rare`, by rank."""

    @property
    def value(self) -> str:
        """The entity's value of this attribute."""
        return self.entity.values[self.attribute.name]


@dataclass(frozen=True, kw_only=True)
class DomainFacts:
    """All facts of one domain."""

    domain: str
    """Name of the domain."""
    attributes: tuple[Attribute, ...]
    """Attributes every entity of the domain has."""
    entities: tuple[Entity, ...]
    """By rank."""
    facts: tuple[Fact, ...]
    """By rank."""
    value_pools: dict[str, tuple[str, ...]]
    """Every value an attribute takes, by attribute name."""
    cumulative: tuple[float, ...] = field(repr=False)
    """Rising sums of the facts' weights."""
    by_entity: dict[str, tuple[Fact, ...]] = field(repr=False)
    """The facts of an entity, the most frequent first, by entity name."""

    def draw_fact(self, draw: Draw) -> Fact:
        """A fact, drawn with its Zipf weight."""
        return self.facts[draw.weighted(self.cumulative)]

    def draw_facts_of(self, entity: Entity, draw: Draw, count: int) -> list[Fact]:
        """Up to `count` different facts of one entity, the frequent ones more often; in random order."""
        left = list(self.by_entity[entity.name])
        picked: list[Fact] = []
        while left and len(picked) < count:
            cumulative = tuple(itertools.accumulate(1 / (fact.rank + 1) for fact in left))
            picked.append(left.pop(draw.weighted(cumulative)))
        return picked


@dataclass(frozen=True, kw_only=True)
class FactTable:
    """The facts of all domains, with the people and places its texts may name."""

    domains: dict[str, DomainFacts]
    """By domain name."""
    surnames: tuple[str, ...]
    """Family names that documents give to their persons."""
    towns: tuple[str, ...]
    """Towns documents mention; the first ones are the entities of the general domain."""

    @property
    def fact_count(self) -> int:
        """Facts of all domains together."""
        return sum(len(facts.facts) for facts in self.domains.values())


@lru_cache(maxsize=4)
def build_fact_table(seed: int) -> FactTable:
    """The world's facts for `seed`."""
    maker = NameMaker(Draw(seed, "names"))
    towns = tuple(maker.town() for _ in range(ENTITY_COUNTS["general"]))
    surnames = tuple(maker.surname() for _ in range(160))
    officers = tuple(maker.surname() for _ in range(24))
    pools = _value_pools(towns[:20], officers)
    makers = {"law": maker.statute, "medicine": maker.drug, "finance": maker.company}
    domains: dict[str, DomainFacts] = {}
    for domain in DEMO_DOMAINS:
        names = towns if domain == "general" else tuple(makers[domain]() for _ in range(ENTITY_COUNTS[domain]))
        domains[domain] = _domain_facts(domain, names, pools, maker, Draw(seed, "facts", domain))
    return FactTable(domains=domains, surnames=surnames, towns=towns)


def _value_pools(seats: tuple[str, ...], officers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Values by attribute name; tickers are made per company and have no pool here."""
    return {
        "penalty": lexicon.PENALTIES,
        "court": lexicon.COURTS,
        "subject": lexicon.SUBJECTS,
        "judge": tuple(f"Judge {name}" for name in officers),
        "year": tuple(str(year) for year in range(1804, 1904, 5)),
        "dose": lexicon.DOSES,
        "organ": tuple(f"the {organ}" for organ in lexicon.ORGANS),
        "side effect": lexicon.SIDE_EFFECTS,
        "condition": lexicon.CONDITIONS,
        "laboratory": lexicon.LABORATORIES,
        "auditor": lexicon.AUDITORS,
        "sector": lexicon.SECTORS,
        "seat": seats,
        "chief": tuple(f"Chairman {name}" for name in officers),
        "river": tuple(f"the {river}" for river in lexicon.RIVERS),
        "dish": lexicon.DISHES,
        "festival": lexicon.FESTIVALS,
        "mayor": tuple(f"Mayor {name}" for name in officers),
    }


def _domain_facts(
    domain: str, names: tuple[str, ...], pools: dict[str, tuple[str, ...]], maker: NameMaker, draw: Draw
) -> DomainFacts:
    attributes = ATTRIBUTES[domain]
    entities = []
    for rank, name in enumerate(names):
        values = {a.name: maker.ticker() if a.name == "ticker" else draw.one(pools[a.name]) for a in attributes}
        entities.append(Entity(name=name, rank=rank, values=values))
    # Facts of important entities come first, but an entity's own facts spread over about an octave of ranks.
    keyed = [((e.rank + 1) * (0.5 + draw.fraction()), i, e, a) for e in entities for i, a in enumerate(attributes)]
    keyed.sort(key=lambda entry: (entry[0], entry[2].rank, entry[1]))
    facts = tuple(
        Fact(entity=entity, attribute=attribute, rank=rank, group=_group(rank, len(keyed)))
        for rank, (_, _, entity, attribute) in enumerate(keyed)
    )
    by_entity: dict[str, list[Fact]] = {entity.name: [] for entity in entities}
    for fact in facts:
        by_entity[fact.entity.name].append(fact)
    return DomainFacts(
        domain=domain,
        attributes=attributes,
        entities=tuple(entities),
        facts=facts,
        value_pools={a.name: tuple(sorted({e.values[a.name] for e in entities})) for a in attributes},
        cumulative=tuple(itertools.accumulate(1 / (rank + 1) for rank in range(len(facts)))),
        by_entity={name: tuple(own) for name, own in by_entity.items()},
    )


def _group(rank: int, count: int) -> str:
    if rank < FREQUENT_FRACTION * count:
        return "frequent"
    return "rare" if rank >= RARE_FRACTION * count else "middle"
