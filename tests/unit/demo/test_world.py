import itertools
import os
import subprocess
import sys

import pytest

from edgeprune.demo.paths import DEMO_DOMAINS, DEMO_QUESTION_DOMAINS, DEMO_SPLITS
from edgeprune.demo.world import SPLIT_BYTES, World

DIGEST = """
import hashlib, itertools
from edgeprune.demo.world import World
world, digest = World({seed}), hashlib.sha256()
for domain, index in itertools.product(("law", "medicine", "finance", "general"), range(40)):
    digest.update(world.document(domain, "train", index).encode())
print(digest.hexdigest())
"""


def _digest(seed: int, *, hash_seed: str) -> str:
    command = [sys.executable, "-c", DIGEST.format(seed=seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_same_seed_same_text_in_another_process() -> None:
    assert _digest(3, hash_seed="1") == _digest(3, hash_seed="2")
    assert _digest(4, hash_seed="1") != _digest(3, hash_seed="1")


def test_world_needs_no_torch() -> None:
    code = "import sys, edgeprune.demo.world, edgeprune.demo.paths; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("domain", DEMO_DOMAINS)
def test_splits_share_no_document(domain: str) -> None:
    world = World(0)
    splits = {split: set(world.split_documents(domain, split)) for split in DEMO_SPLITS}
    splits["train"] = {world.document(domain, "train", index) for index in range(2000)}
    assert sum(map(len, splits.values())) == len(set().union(*splits.values()))


@pytest.mark.parametrize("split", DEMO_SPLITS)
def test_split_holds_its_bytes_and_no_text_twice(split: str) -> None:
    texts = World(0).split_documents("law", split)
    size = sum(len(text.encode()) for text in texts)
    assert SPLIT_BYTES[split] <= size < SPLIT_BYTES[split] + len(texts[-1].encode())
    assert len(texts) == len(set(texts))


def test_training_text_mixes_all_domains() -> None:
    domains = [domain for domain, _ in itertools.islice(World(0).training_documents(), 400)]
    assert set(domains) == set(DEMO_DOMAINS)
    assert domains.count("general") < domains.count("law")


@pytest.mark.parametrize("domain", DEMO_DOMAINS)
def test_text_is_clean(domain: str) -> None:
    text = "\n\n".join(World(0).split_documents(domain, "selection"))
    assert text.isascii()
    assert not set("{}[]|\0") & set(text)
    assert "  " not in text


@pytest.mark.parametrize("domain", DEMO_QUESTION_DOMAINS)
def test_questions_are_well_formed(domain: str) -> None:
    world = World(0)
    facts = world.facts.domains[domain]
    prompts = {question["prompt"] for question in world.questions(domain)}
    assert len(prompts) == len(world.questions(domain)) == 200
    truth = {(fact.entity.name, fact.value): fact for fact in facts.facts}
    for question in world.questions(domain):
        values = [choice.removeprefix(" ") for choice in question["choices"]]
        assert len(set(values)) == 4
        assert all(choice.startswith(" ") for choice in question["choices"])
        right = [
            fact
            for (name, value), fact in truth.items()
            if value == values[question["answer"]] and name in question["prompt"]
        ]
        assert any(fact.group == question["group"] for fact in right)
        assert any(set(values) <= set(facts.value_pools[fact.attribute.name]) for fact in right)


def test_answers_stand_everywhere_alike() -> None:
    answers = [question["answer"] for domain in DEMO_QUESTION_DOMAINS for question in World(0).questions(domain)]
    assert all(0.18 < answers.count(place) / len(answers) < 0.32 for place in range(4))


def test_training_text_asks_in_the_form_of_the_questions() -> None:
    world = World(0)
    text = "\n".join(world.document("law", "train", index) for index in range(2000))
    frequent = [question for question in world.questions("law") if question["group"] == "frequent"]
    found = [question["prompt"] + question["choices"][question["answer"]] in text for question in frequent]
    assert sum(found) > 0.8 * len(found)
