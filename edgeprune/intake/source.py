"""`resolve_model`: a folder, or a hub id `org/name[@revision]`, becomes a local folder.

Downloads go through huggingface_hub, which honours HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN; only
safetensors, JSON and tokenizer files are fetched, never pickle or code.
"""

import os
import re
from pathlib import Path

from edgeprune.errors import ModelError

__all__ = ["DOWNLOADED_FILES", "resolve_model"]

DOWNLOADED_FILES = (
    "*.safetensors", "*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "README.md", "LICENSE*",
    "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*",
)  # fmt: skip
"""Patterns of the files a model needs, and of its licence, which a bundle passes on."""

_IGNORED_FILES = ("*/*", "onnx*", "*consolidated*", "adapter_*", "*.fp16.*")  # other layouts of the same weights
_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+|[\w-]+)(?:@(?P<revision>[\w./-]+))?")


def resolve_model(name: str) -> Path:
    """The local folder of a model.

    Args:
        name: a folder, or a hub id such as `HuggingFaceTB/SmolLM2-135M` or `org/name@revision`.

    Raises:
        ModelError: no such folder or hub id, no config.json, or a hub that cannot be reached.
    """
    if not name.strip():
        raise ModelError("The model has an empty name; give the folder of a Hugging Face model, or a hub id.")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"The folder {name} has no config.json; give the folder of a Hugging Face model.")
        return folder
    if folder.exists():
        raise ModelError(f"{name} is a file; give the folder of a Hugging Face model, or a hub id like org/name.")
    match = _HUB_ID.fullmatch(name)
    if match is None or name.startswith((".", "/", "~")):
        raise ModelError(
            f"The model {name} is missing: no such folder, and it is not a hub id like org/name; check the path."
        )
    return _download(match["name"], match["revision"])


def _download(hub_id: str, revision: str | None) -> Path:
    try:
        # Deferred: the base install, which plans from folders, has no huggingface_hub.
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError as error:
        raise ModelError(
            f"There is no folder {hub_id}, and downloading from the hub needs huggingface_hub; "
            "run pip install 'edgeprune[compress]' or give a folder."
        ) from error
    what = hub_id if revision is None else f"{hub_id}@{revision}"
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # only the front doors write to stderr
    try:
        found = snapshot_download(
            hub_id, revision=revision, allow_patterns=list(DOWNLOADED_FILES), ignore_patterns=list(_IGNORED_FILES)
        )
    except GatedRepoError as error:
        raise ModelError(
            f"The hub model {what} is gated; accept its terms on the hub and set HF_TOKEN, or give a folder."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"There is neither a folder nor a hub model {what}; check the name, and set HF_TOKEN if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"The hub model {hub_id} has no revision {revision}; check the name after the @.") from error
    except HFValidationError as error:
        raise ModelError(f"{what!r} is neither a folder nor a valid hub id; write it like org/name.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(_unreachable(what)) from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(f"{_unreachable(what)} ({reason[0] if reason else type(error).__name__})") from error
    finally:
        if had_bars:
            enable_progress_bars()
    folder = Path(found)
    if not (folder / "config.json").is_file():
        raise ModelError(f"The hub model {what} has no config.json; it is not a Hugging Face transformers model.")
    return folder


def _unreachable(what: str) -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return (
            f"The model {what} is neither a folder nor in the hub cache, and HF_HUB_OFFLINE forbids downloading it; "
            "unset HF_HUB_OFFLINE once or give a folder."
        )
    return (
        f"The model {what} is no folder, and the hub cannot be reached to download it; check the connection and "
        "HF_ENDPOINT, or give a folder."
    )
