"""Where an output lives: the few file operations that a commit is made of.

`LocalStore` is durable (fsync of files and directories) and exclusive (hard link, lock).
`ObjectStore` does the same steps as far as an object store has them; what it cannot
promise is said there. `DurableFile` writes one file, counting and hashing its bytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pyarrow import fs as pafs

from distclust.data.uri import join, open_path, scrub

__all__ = ["DurableFile", "LocalStore", "ObjectStore", "Store", "open_store"]

_BUFFER_NBYTES = 1 << 20
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_LINKS = _NO_LOCKS | {errno.EPERM, errno.EMLINK}


class DurableFile:
    """A new file, open for writing; only `close` promises that its bytes are stored.

    As a context manager it is closed at the end, or discarded on any error.

    Attributes
    ----------
    path : str
    n_bytes : int
        Written so far.

    Raises
    ------
    OSError
        From any method, naming the path: the disk is full, the store refuses, …
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.n_bytes = 0
        self._hash = hashlib.sha256()
        self._filesystem, self._inner = open_path(path)
        self._local = isinstance(self._filesystem, pafs.LocalFileSystem)
        with _naming(path):
            self._filesystem.create_dir(posixpath.dirname(self._inner))
            self._raw: Any = (
                open(self._inner, "xb", buffering=_BUFFER_NBYTES)  # noqa: SIM115 (see close)
                if self._local
                else self._filesystem.open_output_stream(self._inner)
            )

    def __enter__(self) -> DurableFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise

    @property
    def closed(self) -> bool:
        return bool(self._raw.closed)

    @property
    def sha256(self) -> str:
        """Digest of the bytes written so far."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        with _naming(self.path):
            self._raw.write(data)
        self._hash.update(data)
        self.n_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        with _naming(self.path):
            self._raw.flush()

    def close(self) -> None:
        """Store the bytes, on the disk itself when it is a local one."""
        if self.closed:
            return
        with _naming(self.path):
            self._raw.flush()
            if self._local:
                os.fsync(self._raw.fileno())
            self._raw.close()

    def discard(self) -> None:
        """Delete the file, whatever its state."""
        with contextlib.suppress(OSError):
            self._raw.close()
        with contextlib.suppress(OSError):
            self._filesystem.delete_file(self._inner)


class Store(Protocol):
    """Files below one directory, named by relative paths with ``/``."""

    root: str

    def create_root(self) -> list[str]:
        """Make the directory; return the directories that had to be made, outermost first."""

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, or None if there is no such file."""

    def files(self, name: str) -> list[str]:
        """Names of all files below a directory (or of the file itself), sorted."""

    def move(self, source: str, target: str) -> None:
        """Rename a file or directory; the target must not exist."""

    def upload(self, source: Path, target: str) -> None:
        """Bring a local file or directory in, durably."""

    def create(self, temporary: str, name: str) -> None:
        """Give a written file its final name; FileExistsError if that is taken."""

    def replace(self, temporary: str, name: str) -> None:
        """Give a written file its final name, in place of any other."""

    def remove(self, name: str) -> None:
        """Delete a file or a whole directory, if it exists."""

    def remove_empty(self, name: str) -> None:
        """Delete a directory if nothing is in it."""

    def sync(self, name: str) -> None:
        """Make the names in a directory durable."""

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Keep other commits out; gives whether the store can promise that."""


def open_store(path: str) -> Store:
    """Return the store for an output directory given as a path or URI."""
    filesystem, inner = open_path(path)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return LocalStore(inner)
    return ObjectStore(path, filesystem, inner)


class LocalStore:
    """A directory of a POSIX file system."""

    def __init__(self, root: str) -> None:
        self.root = root

    def create_root(self) -> list[str]:
        root = Path(self.root)
        made = [str(path) for path in (root, *root.parents) if not path.exists()][::-1]
        with _naming(self.root):
            root.mkdir(parents=True, exist_ok=True)
            for path in made:
                _sync(Path(path).parent)
        return made

    def read(self, name: str) -> bytes | None:
        try:
            return self._at(name).read_bytes()
        except FileNotFoundError:
            return None

    def files(self, name: str) -> list[str]:
        path = self._at(name)
        found = [path] if path.is_file() else []
        for directory, _, names in os.walk(path):  # passes over what another job deletes meanwhile
            found += [Path(directory, file) for file in names]
        return sorted(item.relative_to(self.root).as_posix() for item in found)

    def move(self, source: str, target: str) -> None:
        path = self._at(target)
        with _naming(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self._at(source), path)

    def upload(self, source: Path, target: str) -> None:
        """Make durable what was written at `target` directly: staging is local already."""
        path = self._at(target)
        for item in (path, *path.rglob("*")):
            _sync(item)

    def create(self, temporary: str, name: str) -> None:
        path = self._at(name)
        try:
            os.link(self._at(temporary), path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():  # the lock keeps other commits from creating it meanwhile
                raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
            os.replace(self._at(temporary), path)
        self.sync(posixpath.dirname(name))

    def replace(self, temporary: str, name: str) -> None:
        os.replace(self._at(temporary), self._at(name))
        self.sync(posixpath.dirname(name))

    def remove(self, name: str) -> None:
        path = self._at(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def remove_empty(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._at(name).rmdir()

    def sync(self, name: str) -> None:
        _sync(self._at(name))

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold an flock on ``.lock``, which is there only while it is held.

        Where the file system has no locks, commits that do not overwrite are still
        exclusive, by the hard link.
        """
        path = self._at(".lock")
        handle, exclusive = _acquire(path)
        try:
            yield exclusive
        finally:
            try:
                path.unlink(missing_ok=True)
            finally:
                os.close(handle)

    def _at(self, name: str) -> Path:
        return Path(self.root, name)


class ObjectStore:
    """A directory of an object store or another remote file system.

    Best effort: there is no lock, and `create` looks before it writes, so of two jobs
    that finish within the same moment the later manifest stays. Moving is copying.
    """

    def __init__(self, root: str, filesystem: Any, inner: str) -> None:
        self.root = root
        self._filesystem = filesystem
        self._inner = inner

    def create_root(self) -> list[str]:
        with _naming(self.root):
            if self._type("") != pafs.FileType.NotFound:
                return []
            self._filesystem.create_dir(self._inner)
        return [self.root]

    def read(self, name: str) -> bytes | None:
        if self._type(name) != pafs.FileType.File:
            return None
        with _naming(join(self.root, name)), self._filesystem.open_input_file(self._at(name)) as f:
            return bytes(f.read())

    def files(self, name: str) -> list[str]:
        if self._type(name) == pafs.FileType.File:
            return [name]
        selector = pafs.FileSelector(self._at(name), recursive=True, allow_not_found=True)
        found = [info for info in self._filesystem.get_file_info(selector) if info.is_file]
        return sorted(posixpath.relpath(info.path, self._inner) for info in found)

    def move(self, source: str, target: str) -> None:
        for name in self.files(source):
            path = self._at(target + name.removeprefix(source))
            with _naming(join(self.root, target)):
                self._filesystem.create_dir(posixpath.dirname(path))
                self._filesystem.move(self._at(name), path)
        self.remove(source)

    def upload(self, source: Path, target: str) -> None:
        items = [source] if source.is_file() else sorted(source.rglob("*"))
        for item in items:
            if item.is_file():
                relative = item.relative_to(source).as_posix() if item != source else ""
                path = join(self.root, target, relative) if relative else join(self.root, target)
                with DurableFile(path) as file:
                    file.write(item.read_bytes())

    def create(self, temporary: str, name: str) -> None:
        if self._type(name) != pafs.FileType.NotFound:
            raise FileExistsError(errno.EEXIST, "exists", scrub(join(self.root, name)))
        self.replace(temporary, name)

    def replace(self, temporary: str, name: str) -> None:
        data = self.read(temporary) or b""
        with (
            _naming(join(self.root, name)),
            self._filesystem.open_output_stream(self._at(name)) as stream,
        ):
            stream.write(data)

    def remove(self, name: str) -> None:
        kind = self._type(name)
        if kind == pafs.FileType.Directory:
            self._filesystem.delete_dir(self._at(name))
        elif kind == pafs.FileType.File:
            self._filesystem.delete_file(self._at(name))

    def remove_empty(self, name: str) -> None:
        selector = pafs.FileSelector(self._at(name), allow_not_found=True)
        is_directory = self._type(name) == pafs.FileType.Directory
        if is_directory and not self._filesystem.get_file_info(selector):
            self._filesystem.delete_dir(self._at(name))

    def sync(self, name: str) -> None:
        """Do nothing: an object store has stored what it has accepted."""

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(False)

    def _at(self, name: str) -> str:
        return posixpath.join(self._inner, name).rstrip("/")

    def _type(self, name: str) -> Any:
        return self._filesystem.get_file_info(self._at(name)).type


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Let an OSError say which path it is about; its number and kind stay."""
    try:
        yield
    except OSError as error:
        reason = scrub(error.strerror or str(error))
        raise OSError(error.errno or errno.EIO, reason, scrub(path)) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _acquire(path: Path) -> tuple[int, bool]:
    """Return an open descriptor, and whether it holds the lock of the file now at `path`."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return handle, False
            os.close(handle)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle, True
        os.close(handle)  # its holder deleted the file: this lock keeps nobody out
