"""Opening a bundle: nothing of it is loaded before its manifest has vouched for every byte.

Takes a bundle folder; gives its manifest and paths. Refused: a missing or malformed manifest, a newer schema, a file
that is missing, of another size or another hash, hashes other than those the manifest was written with, a path or a
link that leaves the folder, and a graph that names weights outside the files of the manifest.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from edgeprune.artifacts import hash_file, hash_parts, read_record, resolve_inside
from edgeprune.errors import ModelError
from edgeprune.schema.bundle import BundleManifest
from edgeprune.validate.external_data import external_locations

__all__ = ["MANIFEST_NAME", "MODEL_NAME", "OpenBundle", "open_bundle", "read_manifest"]

MANIFEST_NAME = "edgeprune.json"
MODEL_NAME = "model.onnx"
EVALUATION_FOLDER = "eval"
_SHA256 = re.compile("[0-9a-f]{64}")

_MANIFEST_LIMIT_BYTES = 64_000_000
"""A manifest of a model with 1,000 blocks has about 3 MB; a larger one is not read into memory."""


@dataclass(frozen=True)
class OpenBundle:
    """A bundle whose files are those its manifest lists."""

    folder: Path
    manifest: BundleManifest
    disk_bytes: int
    """All files but the evaluation sets and the manifest, as they stand in the folder."""
    weights_bytes: int
    """Bytes of the files that hold weights."""

    @property
    def model_path(self) -> Path:
        """The graph."""
        return self.folder / MODEL_NAME

    def path(self, relative: str) -> Path:
        """A file the manifest names, kept inside the folder."""
        return resolve_inside(self.folder, relative)


def open_bundle(folder: Path) -> OpenBundle:
    """Read the manifest and verify every file.

    Raises:
        ModelError: anything is missing, malformed, changed, or leads outside the folder.
    """
    manifest_path = folder / MANIFEST_NAME
    manifest = read_manifest(folder)
    listed = {entry.path for entry in manifest.files}
    if len(listed) != len(manifest.files):
        raise ModelError(f"{manifest_path} lists a file twice; export the bundle again.")
    for needed in (MODEL_NAME, *(text.path for text in manifest.texts), *(choice.path for choice in manifest.choices)):
        if needed not in listed:
            raise ModelError(f"{manifest_path} does not list {needed}; export the bundle again.")
    for entry in manifest.files:
        _refuse_links(folder, entry.path)
    _check_hashes(manifest, manifest_path)
    for entry in manifest.files:
        _verify(folder, entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256)
    weights_bytes = 0
    for location in external_locations(folder / MODEL_NAME):
        _refuse_links(folder, location)
        if location not in listed:
            raise ModelError(
                f"{folder / MODEL_NAME} reads weights from {location!r}, which its manifest does not list; "
                "refuse files from this source."
            )
        weights_bytes += (folder / location).stat().st_size
    if weights_bytes == 0:
        weights_bytes = (folder / MODEL_NAME).stat().st_size
    return OpenBundle(folder, manifest, _disk_bytes(folder), weights_bytes)


def read_manifest(folder: Path) -> BundleManifest:
    """Read the manifest alone; its files are not looked at.

    Raises:
        ModelError: not a bundle, or a manifest that is malformed or of a newer schema.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a bundle: there is no such folder; give the folder that export wrote.")
    manifest_path = folder / MANIFEST_NAME
    if not manifest_path.is_file():
        raise ModelError(f"{folder} is not a bundle: it has no {MANIFEST_NAME}; give the folder that export wrote.")
    _refuse_links(folder, MANIFEST_NAME)
    if manifest_path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise ModelError(f"{manifest_path} is larger than any manifest; export the bundle again.")
    return read_record(manifest_path, BundleManifest)


def _verify(folder: Path, relative: str, *, size_bytes: int, sha256: str) -> None:
    path = folder / relative
    if not path.is_file():
        raise ModelError(f"{path} is missing, though its manifest lists it; export or copy the bundle again.")
    size = path.stat().st_size
    if size != size_bytes:
        raise ModelError(f"{path} has {size} bytes, its manifest says {size_bytes}; export or copy the bundle again.")
    if hash_file(path) != sha256:
        raise ModelError(
            f"{path} was changed since the bundle was made: it has as many bytes as then, but another sha256; copy the "
            "bundle again."
        )


def _check_hashes(manifest: BundleManifest, path: Path) -> None:
    """Hashes that are none, or not those the manifest was written with, vouch for nothing.

    Raises:
        ModelError: names the first such file, or the list.
    """
    for entry in manifest.files:
        if not _SHA256.fullmatch(entry.sha256):
            raise ModelError(
                f"{path} gives {entry.path} the hash {entry.sha256[:80]!r}, which is no sha256; export it again."
            )
    if manifest.files_sha256 is not None and manifest.files_sha256 != hash_parts(manifest.files):
        raise ModelError(
            f"{path} lists other sizes or hashes than it was written with, so it vouches for no file; export or copy "
            "the bundle again."
        )


def _refuse_links(folder: Path, relative: str) -> None:
    resolve_inside(folder, relative)
    path = folder
    for part in Path(relative).parts:
        path = path / part
        if path.is_symlink():
            raise ModelError(f"{path} is a symbolic link; a bundle must hold its own files, so copy them.")


def _disk_bytes(folder: Path) -> int:
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
        and path.relative_to(folder).parts[0] != EVALUATION_FOLDER
        and path.relative_to(folder).as_posix() != MANIFEST_NAME
    )
