"""Where the demo's packaged files lie: its model folder, its texts and its questions.

Standard library only, so a command may ask for a path before it decides what to import.
"""

from pathlib import Path
from typing import Literal, get_args

__all__ = [
    "DEMO_DOMAINS",
    "DEMO_QUESTION_DOMAINS",
    "DEMO_SPLITS",
    "DEVICE_BUNDLE",
    "DEVICE_MANIFEST",
    "DemoDomain",
    "DemoSplit",
    "choice_path_under",
    "demo_choice_path",
    "demo_data_path",
    "demo_device_path",
    "demo_model_path",
    "demo_text_path",
    "model_path_under",
    "text_path_under",
]

DemoDomain = Literal["law", "medicine", "finance", "general"]
DemoSplit = Literal["calibration", "selection", "report"]

DEMO_DOMAINS: tuple[DemoDomain, ...] = get_args(DemoDomain)
"""The demo's domains, in the order in which reports list them."""

DEMO_QUESTION_DOMAINS: tuple[DemoDomain, ...] = ("law", "medicine", "finance")
"""The domains that ship four-option questions."""

DEMO_SPLITS: tuple[DemoSplit, ...] = get_args(DemoSplit)
"""The splits that ship as files. The training split is generated, never stored."""

DEVICE_MANIFEST = "demo.json"
"""File of the device data that vouches for the others."""

DEVICE_BUNDLE = "int4"
"""Folder of the device data that holds the bundle."""


def demo_data_path() -> Path:
    """Folder of the demo's package data."""
    return Path(__file__).resolve().parent / "data"


def demo_model_path() -> Path:
    """Folder of the demo model, in the layout that `transformers` reads."""
    return model_path_under(demo_data_path())


def demo_device_path() -> Path:
    """Folder of what a device without torch needs: shapes, scores and an int4 bundle."""
    return demo_data_path() / "device"


def demo_text_path(domain: str, split: str) -> Path:
    """File of one domain's documents, one `{"text": ...}` per line.

    Raises:
        ValueError: the domain or the split is none of the demo's.
    """
    return text_path_under(demo_data_path(), domain, split)


def demo_choice_path(domain: str) -> Path:
    """File of one domain's four-option questions, one JSON object per line.

    Raises:
        ValueError: the demo ships no questions for this domain.
    """
    return choice_path_under(demo_data_path(), domain)


def model_path_under(root: Path) -> Path:
    """The model folder under `root`, which has the layout of the package data."""
    return root / "model"


def text_path_under(root: Path, domain: str, split: str) -> Path:
    """The text file of `domain` and `split` under `root`; see `demo_text_path`."""
    _require(domain, DEMO_DOMAINS, "domain")
    _require(split, DEMO_SPLITS, "split")
    return root / "text" / f"{domain}.{split}.jsonl"


def choice_path_under(root: Path, domain: str) -> Path:
    """The question file of `domain` under `root`; see `demo_choice_path`."""
    _require(domain, DEMO_QUESTION_DOMAINS, "domain with questions")
    return root / "choice" / f"{domain}.report.jsonl"


def _require(value: str, allowed: tuple[str, ...], what: str) -> None:
    if value not in allowed:
        raise ValueError(f"{value!r} is no {what} of the demo; it has {', '.join(allowed)}")
