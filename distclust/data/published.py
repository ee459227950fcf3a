"""What a finished output holds: its manifest, read and checked.

The manifest alone says which files belong to a result; nothing here lists directories.
It comes from storage, so it is data that is not trusted. Writing it is the business of
`distclust.data.commit`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pyarrow.dataset as pads

from distclust.data.store import Store, open_store
from distclust.data.uri import PathLike, join, open_path, scrub
from distclust.errors import CorruptFile, DataError

__all__ = ["file_digest", "labels_dataset", "load_manifest", "read_json", "read_manifest", "verify"]

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
RESERVED = frozenset({"labels", MANIFEST})
RUN_NAME = re.compile(r"[A-Za-z0-9][\w-]{7,63}")
ENTRY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
LABELS_NAME = re.compile(r"labels/[^/\\]+\.parquet")

_CHUNK_NBYTES = 1 << 20


def read_manifest(path: PathLike) -> dict[str, Any]:
    """Return the manifest of a finished output.

    Raises
    ------
    DataError
        There is none, or it is damaged.
    """
    manifest = load_manifest(open_store(str(path)))
    if manifest is None:
        raise DataError(f"{scrub(str(path))}: holds no finished result (no {MANIFEST})")
    return manifest


def labels_dataset(path: PathLike) -> Any:
    """Return the labels as a pyarrow Dataset of exactly the manifest's files, in input order.

    Raises
    ------
    DataError
        There is no finished result.
    """
    files = [file["path"] for file in read_manifest(path)["files"]]
    root = open_store(str(path)).root
    filesystem, _ = open_path(root)
    checked = pads.ParquetFragmentScanOptions(page_checksum_verification=True)
    paths = [open_path(join(root, name))[1] for name in files]
    layout = pads.ParquetFileFormat(default_fragment_scan_options=checked)
    return pads.dataset(paths, filesystem=filesystem, format=layout)


def verify(path: PathLike) -> None:
    """Check every file of a finished output against its size and SHA-256.

    Raises
    ------
    CorruptFile
        A file is missing or differs; names it.
    DataError
        There is no finished result.
    """
    manifest = read_manifest(path)
    store = open_store(str(path))
    for file in (*manifest["files"], *manifest["entries"]):
        name = scrub(join(store.root, file["path"]))
        try:
            n_bytes, sha256 = file_digest(join(store.root, file["path"]))
        except FileNotFoundError as error:
            raise CorruptFile(f"{name}: is missing, but the manifest names it") from error
        if (n_bytes, sha256) != (file["bytes"], file["sha256"]):
            raise CorruptFile(
                f"{name}: its bytes differ from those written "
                f"({n_bytes} bytes, {file['bytes']} in the manifest)"
            )


def load_manifest(store: Store) -> dict[str, Any] | None:
    """Return a store's manifest, or None without one.

    Its names are used to move and delete, so none may lead outside the directory.
    """
    if store.read(MANIFEST) is None:
        return None
    name = scrub(join(store.root, MANIFEST))
    manifest: dict[str, Any] = read_json(store, MANIFEST)
    try:
        version = manifest["schema_version"]
        if version != SCHEMA_VERSION:
            raise DataError(f"{name}: schema version {version!r} is not {SCHEMA_VERSION}")
        sound = _is_sound(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"{name}: is not a manifest: {error}") from error
    if not sound:
        raise CorruptFile(f"{name}: names files outside its directory, or of the wrong kind")
    return manifest


def _is_sound(manifest: dict[str, Any]) -> bool:
    labels = [file["path"] for file in manifest["files"]]
    entries = [entry["path"] for entry in manifest["entries"]]
    return (
        RUN_NAME.fullmatch(manifest["run"]) is not None
        and all(LABELS_NAME.fullmatch(name) for name in labels)
        and all(_is_entry(name) for name in entries)
        and all(LABELS_NAME.fullmatch(name) or _is_entry(name) for name in manifest["replaces"])
    )


def _is_entry(name: str) -> bool:
    top, *deeper = name.split("/")
    is_plain = ENTRY_NAME.fullmatch(top) is not None and top not in RESERVED
    return is_plain and not {"", ".", ".."} & set(deeper)


def read_json(store: Store, name: str) -> Any:
    """Return the content of a JSON file; CorruptFile if it is not JSON."""
    try:
        return json.loads(store.read(name) or b"null")
    except ValueError as error:
        raise CorruptFile(f"{scrub(join(store.root, name))}: is not JSON: {error}") from error


def file_digest(path: str) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256, without holding it in memory."""
    filesystem, inner = open_path(path)
    digest = hashlib.sha256()
    n_bytes = 0
    with filesystem.open_input_stream(inner, compression=None) as stream:
        while chunk := stream.read(_CHUNK_NBYTES):
            digest.update(chunk)
            n_bytes += len(chunk)
    return n_bytes, digest.hexdigest()
