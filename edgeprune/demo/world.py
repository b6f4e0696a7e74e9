"""The demo world: endless documents of four domains, cut into disjoint splits.

Document i of a domain's split is a function of (seed, split, domain, i) alone. Splits never share a document: each
takes its documents from its own seeds, and stored splits drop any text that a lower-numbered one already holds.
Facts are shared by all splits, since a question asks for what the training text tells.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from edgeprune.demo.documents import write_document
from edgeprune.demo.facts import FactTable, build_fact_table
from edgeprune.demo.grammar import Draw
from edgeprune.demo.paths import (
    DEMO_DOMAINS,
    DEMO_QUESTION_DOMAINS,
    DEMO_SPLITS,
    choice_path_under,
    text_path_under,
)
from edgeprune.demo.questions import Question, make_questions

__all__ = ["SPLIT_BYTES", "TRAINING_SHARES", "World"]

SPLIT_BYTES = {"calibration": 125_000, "selection": 60_000, "report": 60_000}
"""Text of each domain in a stored split, in UTF-8 bytes."""

TRAINING_SHARES = {"law": 0.28, "medicine": 0.28, "finance": 0.28, "general": 0.16}
"""Share of each domain among the documents of the training text."""

QUESTIONS_PER_GROUP = 100
"""Questions on frequent facts, and as many on rare ones, in each domain's file."""


class World:
    """The made-up world of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.facts: FactTable = build_fact_table(seed)

    def document(self, domain: str, split: str, index: int) -> str:
        """Document `index` of a domain's split."""
        return write_document(self.facts, domain, Draw(self.seed, split, domain, index))

    def training_documents(self) -> Iterator[tuple[str, str]]:
        """Endless (domain, text) pairs of the training split, the domains mixed by `TRAINING_SHARES`."""
        order = Draw(self.seed, "train", "order")
        cumulative = tuple(itertools.accumulate(TRAINING_SHARES[domain] for domain in DEMO_DOMAINS))
        used = dict.fromkeys(DEMO_DOMAINS, 0)
        while True:
            domain = DEMO_DOMAINS[order.weighted(cumulative)]
            yield domain, self.document(domain, "train", used[domain])
            used[domain] += 1

    def split_documents(self, domain: str, split: str) -> list[str]:
        """The documents of a stored split: the first different ones that together hold `SPLIT_BYTES`."""
        texts: dict[str, None] = {}
        size = 0
        for index in itertools.count():
            text = self.document(domain, split, index)
            if text not in texts:
                texts[text] = None
                size += len(text.encode())
            if size >= SPLIT_BYTES[split]:
                break
        return list(texts)

    def questions(self, domain: str) -> list[Question]:
        """The questions on a domain's facts."""
        draw = Draw(self.seed, "questions", domain)
        return list(make_questions(self.facts.domains[domain], draw, per_group=QUESTIONS_PER_GROUP))

    def write_splits(self, root: Path) -> None:
        """Write every stored split and question file under `root`, in the layout of the package data."""
        for domain in DEMO_DOMAINS:
            for split in DEMO_SPLITS:
                texts = self.split_documents(domain, split)
                _write_lines(text_path_under(root, domain, split), [{"text": text} for text in texts])
        for domain in DEMO_QUESTION_DOMAINS:
            _write_lines(choice_path_under(root, domain), [dict(question) for question in self.questions(domain)])


def _write_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
