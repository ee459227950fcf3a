"""Models on disk: a directory of ``model.json`` and raw arrays, never a pickle.

This module owns the format. What goes into it, and how it becomes an estimator again,
the estimators say (`distclust.cluster.registry`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.errors import ModelError

__all__ = ["SCHEMA_VERSION", "StoredModel", "read_model", "write_model"]

SCHEMA_VERSION = 1
_JSON_BYTES = 16 * 2**20  # a model.json is small; a larger one is not ours


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """What a model consists of.

    Attributes
    ----------
    kind : str
        Name of the estimator's class.
    params : dict
        Its constructor parameters, as JSON values.
    scalars : dict
        Fitted attributes that are JSON values.
    arrays : dict of str to ndarray
        Fitted attributes, and parameters, that are arrays.
    """

    kind: str
    params: dict[str, Any]
    scalars: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def write_model(path: str | os.PathLike[str], model: StoredModel) -> None:
    """Write a model into directory `path`, which is made if need be."""
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    for name, array in model.arrays.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)
    description = {
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind,
        "params": model.params,
        "scalars": model.scalars,
        "arrays": {name: _sha256(directory / f"{name}.npy") for name in model.arrays},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    fresh = directory / "model.json.tmp"
    fresh.write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
    fresh.replace(directory / "model.json")


def read_model(path: str | os.PathLike[str]) -> StoredModel:
    """Read a model, checking its version and each array's SHA-256.

    Raises
    ------
    ModelError
        There is no model, its version is unknown, or a file was changed.
    """
    directory = Path(path)
    description = _read_description(directory / "model.json")
    arrays = {}
    for name, sha256 in description["arrays"].items():
        file = directory / f"{name}.npy"
        if not name.isidentifier():
            raise ModelError(f"{directory / 'model.json'}: {name!r} is no name of an array")
        if not file.is_file() or _sha256(file) != sha256:
            raise ModelError(f"{file} is missing or is not the file that was saved; save again")
        try:
            arrays[name] = np.load(file, allow_pickle=False)
        except ValueError as error:
            raise ModelError(f"{file} is not an array of numbers: {error}") from error
    return StoredModel(
        kind=description["kind"],
        params=description["params"],
        scalars=description["scalars"],
        arrays=arrays,
    )


def _read_description(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ModelError(
            f"{file} does not exist; save a model with model.save({str(file.parent)!r})"
        )
    if file.stat().st_size > _JSON_BYTES:
        raise ModelError(f"{file} has {file.stat().st_size} bytes, too many for a model")
    try:
        description = json.loads(file.read_text())
        version = description["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{file} is not a model description: {error!r}") from error
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"{file} has schema version {version}, this distclust reads {SCHEMA_VERSION}"
        )
    shape = {"kind": str, "params": dict, "scalars": dict, "arrays": dict}
    lacking = [name for name, kind in shape.items() if not isinstance(description.get(name), kind)]
    if lacking:
        raise ModelError(f"{file} lacks {lacking}, or they are of the wrong type")
    return dict(description)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
