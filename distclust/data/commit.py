"""The output directory: either a whole result or none.

::

    OUT/manifest.json           the commit point: what is not named in it does not exist
    OUT/labels/00000-IN-RUN.parquet
    OUT/model/, OUT/run.json    entries: whatever the caller put at `stage_path(name)`
    OUT/_staging/RUN/           attempts, entries and temporary files of a run
    OUT/.lock                   only while a commit is under way

A commit, under the lock: note the label files about to appear (``placed.json``), move
them in, write the new manifest and give it its name in one step, then settle. To settle
is to move the entries into place, delete the label files of the manifest that was
replaced, and remove the staging directory. A crash before the manifest has its name
leaves the old result whole. A crash after it leaves the new result whole but for
settling, which the next `OutputDir.prepare` on the directory, or `settle`, completes
from the manifest; until then ``OUT/model`` and ``OUT/run.json`` may still be the old
ones (or, for the moment between two renames, missing), and `verify` says so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distclust.data.published import (
    ENTRY_NAME,
    LABELS_NAME,
    MANIFEST,
    RESERVED,
    RUN_NAME,
    SCHEMA_VERSION,
    file_digest,
    load_manifest,
    read_json,
)
from distclust.data.store import DurableFile, LocalStore, Store, open_store
from distclust.data.uri import PathLike, join, scrub
from distclust.data.writer import WrittenFile
from distclust.errors import ConfigError, CorruptFile, OutputExists

__all__ = ["OutputDir", "settle"]

_MAX_STEM = 100  # file names are limited to 255 bytes


class OutputDir:
    """The output of one run, until it is published or aborted.

    Parameters
    ----------
    path : str or path
        Directory or URI.
    overwrite : bool
        Whether a finished result there may be replaced.
    run : str, optional
        Identifier of the run, by default a new one. A resumed run gives its old one and
        finds its staging directory again.

    Attributes
    ----------
    run : str
    attempts_dir : str
        Where workers write attempt files.
    """

    def __init__(self, path: PathLike, overwrite: bool = False, *, run: str | None = None) -> None:
        self.run = run or uuid.uuid4().hex
        if not RUN_NAME.fullmatch(self.run):
            raise ConfigError(f"run {self.run!r} should be 8 to 64 letters, digits, - or _")
        self.overwrite = overwrite
        self._store = open_store(str(path))
        self._staging = f"_staging/{self.run}"
        self._entries: dict[str, Path] = {}
        self._local_staging: Path | None = None
        self._made: list[str] = []
        self._placed: list[str] = []
        self._committed = False

    @property
    def path(self) -> str:
        return self._store.root

    @property
    def attempts_dir(self) -> str:
        return join(self.path, self._staging, "attempts")

    def prepare(self) -> None:
        """Make the staging directory, after finishing or clearing what a crash left.

        Raises
        ------
        OutputExists
            There is a finished result, and `overwrite` is false or it is this very run's.
            Nothing was made.
        OSError
            The directory cannot be made; names it.
        """
        if self._store.read(MANIFEST) is not None:
            with self._store.lock() as exclusive:
                if exclusive:
                    _recover(self._store)
            old = self._refuse_if_taken()
            if old is not None and old["run"] == self.run:
                raise OutputExists(f"{scrub(self.path)}: run {self.run} is finished already")
        self._made = self._store.create_root()
        if isinstance(self._store, LocalStore):
            Path(self.path, self._staging, "entries").mkdir(parents=True, exist_ok=True)

    def stage_path(self, name: str) -> Path:
        """Return where to write an entry, a file or directory that becomes ``OUT/name``.

        Always a local path: for an object store it is uploaded on publishing.
        """
        if not ENTRY_NAME.fullmatch(name) or name in RESERVED:
            raise ConfigError(f"output entry {name!r} should be a plain name, not reserved")
        if isinstance(self._store, LocalStore):
            directory = Path(self.path, self._staging, "entries")
        else:
            self._local_staging = self._local_staging or Path(tempfile.mkdtemp("-distclust"))
            directory = self._local_staging
        self._entries[name] = directory / name
        return self._entries[name]

    def publish(
        self, files: Sequence[WrittenFile], extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make the run's result the directory's result, in one step.

        Parameters
        ----------
        files : sequence of WrittenFile
            One attempt for each input file; other attempts are deleted.
        extra : mapping, optional
            JSON values for the manifest, such as ``{"input_digest": manifest.digest}``.

        Returns
        -------
        dict
            The manifest.

        Raises
        ------
        OutputExists
            Another job committed first, and `overwrite` is false. This run's files are
            deleted.
        OSError
            A file cannot be written or moved; names it. Before the commit, this run's
            files are deleted.
        """
        try:
            with self._store.lock() as exclusive:
                if exclusive:
                    _recover(self._store, own_run=self.run)
                replaced = self._refuse_if_taken()
                manifest = self._manifest(files, replaced, dict(extra or {}))
                self._commit(files, manifest)
                _settle(self._store, manifest)
        except BaseException:
            if not self._committed:
                self.abort()
            raise
        self._drop_local_staging()
        return manifest

    def abort(self) -> None:
        """Delete everything this run made, the directory too if it was not there before.

        Does nothing after a commit; may be called twice.
        """
        self._drop_local_staging()
        if self._committed:
            return
        for name in [*self._placed, self._staging]:
            self._store.remove(name)
        for name in ("_staging", "labels"):
            self._store.remove_empty(name)
        for directory in reversed(self._made):
            open_store(directory).remove_empty("")
        self._placed, self._made = [], []

    def _refuse_if_taken(self) -> dict[str, Any] | None:
        """Return the manifest to replace, if there is one and it may be."""
        old = load_manifest(self._store)
        if old is not None and not self.overwrite:
            raise OutputExists(
                f"{scrub(self.path)}: holds a finished result; "
                "set overwrite: true to replace it, or choose another path"
            )
        known = {entry["path"].partition("/")[0] for entry in (old or {}).get("entries", ())}
        for name in self._entries:
            if not self.overwrite and name not in known and self._store.files(name):
                raise OutputExists(
                    f"{scrub(join(self.path, name))}: exists and is not part of a finished "
                    "result; set overwrite: true to replace it, or choose another path"
                )
        return old

    def _manifest(
        self, files: Sequence[WrittenFile], replaced: dict[str, Any] | None, extra: dict[str, Any]
    ) -> dict[str, Any]:
        indices = [file.file_index for file in files]
        if len(set(indices)) < len(indices):
            raise ValueError("more than one attempt was picked for an input file")
        for name, path in self._entries.items():
            self._store.upload(path, f"{self._staging}/entries/{name}")
        width = max(5, len(str(max(indices, default=0))))
        labels = [
            {
                "path": f"labels/{file.file_index:0{width}d}-{file.stem[:_MAX_STEM]}"
                f"-{self.run[:8]}.parquet",
                "rows": file.n_rows,
                "bytes": file.n_bytes,
                "sha256": file.sha256,
            }
            for file in sorted(files, key=lambda file: file.file_index)
        ]
        return {
            **extra,
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "files": labels,
            "entries": self._describe_entries(),
            "replaces": _names(replaced) if replaced else [],
        }

    def _describe_entries(self) -> list[dict[str, Any]]:
        staged = f"{self._staging}/entries/"
        entries = []
        for name in self._entries:
            for file in self._store.files(staged + name):
                n_bytes, sha256 = file_digest(join(self.path, file))
                path = file.removeprefix(staged)
                entries.append({"path": path, "bytes": n_bytes, "sha256": sha256})
        return entries

    def _commit(self, files: Sequence[WrittenFile], manifest: dict[str, Any]) -> None:
        names = [file["path"] for file in manifest["files"]]
        self._write(f"{self._staging}/placed.json", names)
        attempts = f"{self._staging}/attempts"
        ordered = sorted(files, key=lambda file: file.file_index)
        for file, name in zip(ordered, names, strict=True):
            self._placed.append(name)
            attempt = file.path.partition("?")[0].rpartition("/")[2]
            self._store.move(f"{attempts}/{attempt}", name)
        if names:
            self._store.sync("labels")
        temporary = f"{self._staging}/{MANIFEST}"
        self._write(temporary, manifest)
        if self.overwrite:
            self._store.replace(temporary, MANIFEST)
        else:
            try:
                self._store.create(temporary, MANIFEST)
            except FileExistsError as error:
                raise OutputExists(
                    f"{scrub(self.path)}: another job finished there first; "
                    "set overwrite: true to replace its result, or choose another path"
                ) from error
        self._committed = True

    def _write(self, name: str, content: Any) -> None:
        self._store.remove(name)
        with DurableFile(join(self.path, name)) as file:
            file.write(json.dumps(content, indent=1).encode())
        self._store.sync(self._staging)

    def _drop_local_staging(self) -> None:
        if self._local_staging is not None:
            shutil.rmtree(self._local_staging, ignore_errors=True)
            self._local_staging = None


def settle(path: PathLike) -> None:
    """Finish a commit that was interrupted after its manifest; see the module's text.

    Where the store has no locks, only call it while no job is committing there.
    """
    store = open_store(str(path))
    with store.lock() as exclusive:
        if exclusive:
            _recover(store)
        elif (manifest := load_manifest(store)) is not None:
            _settle(store, manifest)


def _recover(store: Store, own_run: str | None = None) -> None:
    """Finish a committed run and clear those that died while committing.

    Only under the lock: it is what tells a dead run from one that commits right now.
    """
    manifest = load_manifest(store)
    if manifest is not None:
        _settle(store, manifest)
    committed = set(_names(manifest)) if manifest else set()
    for journal in store.files("_staging"):
        run = journal.split("/")[1]
        if journal != f"_staging/{run}/placed.json" or not RUN_NAME.fullmatch(run):
            continue
        placed: list[str] = []
        with contextlib.suppress(CorruptFile):  # cut off: nothing was moved yet
            placed = read_json(store, journal) or []
        for name in placed:
            if LABELS_NAME.fullmatch(name) and name not in committed:
                store.remove(name)
        store.remove(journal if run == own_run else f"_staging/{run}")


def _settle(store: Store, manifest: dict[str, Any]) -> None:
    """Do what remains after the manifest has its name; each step may have been done."""
    staging = f"_staging/{manifest['run']}"
    entries = dict.fromkeys(entry["path"].partition("/")[0] for entry in manifest["entries"])
    for name in entries:
        staged = f"{staging}/entries/{name}"
        if store.files(staged):
            if store.files(name):
                store.remove(f"{staging}/replaced/{name}")
                store.move(name, f"{staging}/replaced/{name}")
            store.move(staged, name)
    kept = {*entries, *(file["path"] for file in manifest["files"])}
    for name in manifest["replaces"]:
        if name not in kept:
            store.remove(name)
    store.sync("")
    store.remove(staging)
    store.remove_empty("_staging")


def _names(manifest: dict[str, Any]) -> list[str]:
    """Label files and entries, by their names in the directory."""
    tops = (entry["path"].partition("/")[0] for entry in manifest["entries"])
    return [*(file["path"] for file in manifest["files"]), *dict.fromkeys(tops)]
