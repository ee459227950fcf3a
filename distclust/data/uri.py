"""Paths: from what a user wrote to a filesystem and an ordered list of files.

A path is kept as the string that opens it again on any machine (an absolute local path
or a URI), so that a shard spec can travel; `open_path` turns it into a filesystem there.
Secrets inside URIs are needed to open them and must not be shown: `scrub` every path
that goes into a message, log or report.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs as pafs

from distclust.errors import ConfigError, DataError

__all__ = ["InputFile", "PathLike", "hive_keys", "join", "open_path", "resolve", "scrub"]

PathLike = str | os.PathLike[str]

PARQUET_SUFFIXES = (".parquet", ".parq")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

_URI = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<rest>.*)", re.DOTALL)
_QUERY = re.compile(r"\?[\w.%-]+=")  # tells a query from the wildcard `?`
_MAGIC = re.compile(r"[*?[]")
_SECRETS = (
    (re.compile(r"(?<=://)([^/\s@:]*):[^\s'\"]*@"), "***@"),
    (re.compile(r"(?<=://)(?<!abfs://)(?<!abfss://)(?<!az://)[^/\s@:*]+@"), "***@"),
    (re.compile(r"\?[\w.%-]+=[^\s'\"]*"), "?***"),
)
_FSSPEC_PACKAGES = {
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    "hf": "huggingface_hub",
}


class InputFile(NamedTuple):
    """A file found by `resolve`.

    Attributes
    ----------
    path : str
        Absolute local path or URI; opens the file on any machine that can reach it.
    size : int
        Bytes.
    partition_keys : dict of str to (str or None)
        Hive keys of the directories above it, as text; None is Hive's null.
    """

    path: str
    size: int
    partition_keys: dict[str, str | None]


class _Root(NamedTuple):
    """A filesystem, and how its inner paths map to the strings users know."""

    filesystem: Any
    head: str  # scheme and authority of the URI; empty for local paths
    base: str  # the inner path that `head` stands for
    query: str

    def uri(self, inner: str) -> str:
        return f"{self.head}{inner.removeprefix(self.base)}{self.query}"


def scrub(text: str) -> str:
    """Replace passwords, keys and tokens of the URIs in `text` by ``***``.

    Examples
    --------
    >>> scrub("s3://AKIA:secret@bucket/x.parquet?sig=abc")
    's3://***@bucket/x.parquet?***'
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def join(path: str, *names: str) -> str:
    """Append names to a path or URI, in front of the URI's query if it has one."""
    query = _QUERY.search(path) if _URI.match(path) else None
    stem, tail = (path[: query.start()], path[query.start() :]) if query else (path, "")
    return posixpath.join(stem, *names) + tail


def open_path(path: PathLike) -> tuple[Any, str]:
    """Open the filesystem of a path or URI.

    Returns
    -------
    (pyarrow.fs.FileSystem, str)
        The filesystem, and the path inside it.

    Raises
    ------
    ConfigError
        The scheme is unknown, or the package that knows it is not installed.
    """
    root, inner = _split(path)
    return root.filesystem, inner


def resolve(path: PathLike | Sequence[PathLike]) -> list[InputFile]:
    """Find the files that a path, glob, directory, or list of those stands for.

    A directory is walked for ``*.parquet`` and ``*.parq``, skipping names that begin
    with ``_`` or ``.``. Each item's files are sorted by path; items of a list keep
    their order, and a file found twice counts once.

    Raises
    ------
    DataError
        An item matches nothing.
    ConfigError
        The filesystem cannot be opened.
    """
    items = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not items:
        raise DataError("no input: the list of paths is empty")
    found: dict[str, InputFile] = {}
    for item in items:
        for file in _resolve_one(item):
            found.setdefault(file.path, file)
    return list(found.values())


def hive_keys(path: str) -> dict[str, str | None]:
    """Hive keys of the directories of a path.

    Examples
    --------
    >>> hive_keys("/data/year=2024/place=New%20York/part-0.parquet")
    {'year': '2024', 'place': 'New York'}
    """
    pairs = (segment.partition("=") for segment in posixpath.dirname(path).split("/"))
    return {
        unquote(key): None if value == HIVE_NULL else unquote(value)
        for key, equals, value in pairs
        if key and equals
    }


def _resolve_one(item: PathLike) -> list[InputFile]:
    name = scrub(os.fspath(item))
    root, pattern = _split(item)
    try:
        infos = list(_expand(root.filesystem, pattern))
    except OSError as error:
        raise DataError(f"{name}: cannot be listed: {scrub(str(error))}") from error
    files = [
        InputFile(root.uri(info.path), int(info.size or 0), hive_keys(info.path))
        for info in sorted(infos, key=lambda info: str(info.path))
    ]
    if not files:
        raise DataError(f"{name}: no Parquet file found (*.parquet or *.parq below a directory)")
    return files


def _split(path: PathLike) -> tuple[_Root, str]:
    text = os.fspath(path)
    match = _URI.fullmatch(text)
    if match is None or match["scheme"].lower() == "file":
        local = text if match is None else unquote(match["rest"])
        absolute = os.path.abspath(Path(local).expanduser())
        return _Root(pafs.LocalFileSystem(), "", "", ""), absolute
    rest, query = match["rest"], ""
    if found := _QUERY.search(rest):
        rest, query = rest[: found.start()], rest[found.start() :]
    authority, slash, key = rest.partition("/")
    root = _open_root(match["scheme"].lower(), authority, query)
    return root, root.base + slash + key.rstrip("/")


@functools.lru_cache(maxsize=64)
def _open_root(scheme: str, authority: str, query: str) -> _Root:
    head = f"{scheme}://{authority}"
    if scheme in _ARROW_SCHEMES:
        try:
            filesystem, base = pafs.FileSystem.from_uri(head + query)
        except (pa.ArrowException, NotImplementedError):
            pass  # this build, or this form of the URI, is not Arrow's: fsspec may know it
        except OSError as error:
            raise DataError(f"{scrub(head)}: cannot be reached: {scrub(str(error))}") from error
        else:
            return _Root(filesystem, head, base.rstrip("/"), query)
    filesystem, base = _open_fsspec(scheme, head)
    return _Root(filesystem, head, base.rstrip("/"), query)


_ARROW_SCHEMES = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"})


def _open_fsspec(scheme: str, head: str) -> tuple[Any, str]:
    package = _FSSPEC_PACKAGES.get(scheme, "a package for it")
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(
            f"{scrub(head)}: {scheme}:// paths need fsspec and {package}; "
            f"install them, for instance: pip install fsspec {package}"
        ) from error
    try:
        filesystem, base = fsspec.core.url_to_fs(head)
    except ImportError as error:
        raise ConfigError(
            f"{scrub(head)}: {scheme}:// paths need {package}; install it: pip install {package}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{scrub(head)}: {scrub(str(error))}") from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(base)


def _expand(filesystem: Any, pattern: str) -> Iterator[Any]:
    """Yield the FileInfo of every data file that an inner path or glob stands for."""
    info = filesystem.get_file_info(pattern)
    if info.type != pafs.FileType.NotFound:
        yield from _walk(filesystem, info)
    elif _MAGIC.search(pattern):
        top, tail = ("/", pattern[1:]) if pattern.startswith("/") else pattern.split("/", 1)
        for match in _match(filesystem, filesystem.get_file_info(top), tail.split("/")):
            yield from _walk(filesystem, match)


def _walk(filesystem: Any, info: Any) -> Iterator[Any]:
    if info.type == pafs.FileType.File:
        yield info
    elif info.type == pafs.FileType.Directory:
        for child in _children(filesystem, info.path):
            if child.type == pafs.FileType.Directory or child.base_name.endswith(PARQUET_SUFFIXES):
                yield from _walk(filesystem, child)


def _children(filesystem: Any, path: str) -> list[Any]:
    infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return [info for info in infos if not info.base_name.startswith(("_", "."))]


def _match(filesystem: Any, info: Any, segments: list[str]) -> Iterator[Any]:
    """Yield what the glob `segments` match below `info`; ``**`` is any depth, also none."""
    if not segments:
        yield info
        return
    first, rest = segments[0], segments[1:]
    if info.type != pafs.FileType.Directory:
        return
    if first == "**" and not rest:
        yield info
    elif first == "**":
        yield from _match(filesystem, info, rest)
        for child in _children(filesystem, info.path):
            if child.type == pafs.FileType.Directory:
                yield from _match(filesystem, child, segments)
    elif _MAGIC.search(first):
        for child in _children(filesystem, info.path):
            if fnmatch.fnmatchcase(child.base_name, first):
                yield from _match(filesystem, child, rest)
    else:
        child = filesystem.get_file_info(posixpath.join(info.path, first))
        yield from _match(filesystem, child, rest)
