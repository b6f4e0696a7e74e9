import itertools

import numpy as np
import pytest

from edgeprune.demo.facts import build_fact_table
from edgeprune.demo.paths import DEMO_DOMAINS, DEMO_QUESTION_DOMAINS
from edgeprune.demo.world import World


def test_the_world_has_at_least_two_thousand_facts() -> None:
    assert build_fact_table(0).fact_count >= 2000


def test_names_are_unique_across_the_world() -> None:
    names = [entity.name for facts in build_fact_table(0).domains.values() for entity in facts.entities]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("domain", DEMO_DOMAINS)
def test_every_fact_holds_a_value_of_its_own_type(domain: str) -> None:
    facts = build_fact_table(0).domains[domain]
    assert [fact.rank for fact in facts.facts] == list(range(len(facts.facts)))
    assert all(fact.value in facts.value_pools[fact.attribute.name] for fact in facts.facts)
    assert all(len(pool) >= 10 for pool in facts.value_pools.values())


@pytest.mark.parametrize("domain", DEMO_QUESTION_DOMAINS)
def test_facts_are_told_with_zipf_frequency(domain: str) -> None:
    world = World(0)
    facts = world.facts.domains[domain]
    text = "\n".join(world.document(domain, "zipf", index) for index in range(1500))
    asked = [text.count(f" {fact.entity.name}?\nAnswer: {fact.value}\n") for fact in facts.facts]
    # Means over octaves of ranks smooth the counts; weights of 1 / rank give them a slope of -1.
    ranks = np.array([2.0**octave for octave in range(2, 9)])
    means = [np.mean(asked[int(rank) : int(rank) * 2]) for rank in ranks]
    slope = np.polyfit(np.log(ranks), np.log(means), 1)[0]
    assert -1.4 < slope < -0.6


def test_groups_go_by_rank() -> None:
    facts = build_fact_table(0).domains["law"].facts
    groups = [group for group, _ in itertools.groupby(fact.group for fact in facts)]
    assert groups == ["frequent", "middle", "rare"]


def test_another_seed_makes_another_world() -> None:
    assert build_fact_table(0).domains["law"].entities[0].name != build_fact_table(1).domains["law"].entities[0].name
