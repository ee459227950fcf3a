"""Opening Parquet files: footers, and what is wrong with a file that has none.

Owns how a file is opened (page checksums on, buffers bounded) and turns the errors of
opening into ones that name the file. Rows are read by `distclust.data.reader`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from distclust.data.uri import open_path, scrub
from distclust.errors import CorruptFile, DataError

__all__ = ["corrupt", "open_parquet"]

_MAGIC = b"PAR1"
_TRAILER_NBYTES = 8  # footer length, magic
_MIN_NBYTES = 12
_BUFFER_NBYTES = 1 << 20


def _base64_forms(needle: bytes) -> tuple[bytes, ...]:
    """Return how `needle` can look inside base64 text, at each of three alignments."""
    forms = []
    for shift, n_foreign in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(shift) + needle)
        forms.append(text[n_foreign : (shift + len(needle)) * 8 // 6])
    return tuple(forms)


# Ray registers Arrow extension types whose metadata is data from the file, and Arrow
# parses it on opening whenever Ray is loaded. The serialised schema is base64 text.
_RAY_TYPES = _base64_forms(b"ray.data.")


@contextmanager
def open_parquet(path: str) -> Iterator[Any]:
    """Open a Parquet file for reading, with page checksums verified.

    Yields
    ------
    pyarrow.parquet.ParquetFile

    Raises
    ------
    DataError
        The file is missing or empty, or holds types that are not parsed.
    CorruptFile
        It is not a Parquet file, or is truncated.
    """
    filesystem, inner = open_path(path)
    try:
        source = filesystem.open_input_file(inner)
    except FileNotFoundError as error:
        raise DataError(f"{scrub(path)}: file not found") from error
    except OSError as error:
        raise DataError(f"{scrub(path)}: cannot be opened: {scrub(str(error))}") from error
    with source:
        try:
            _check_envelope(path, source)
            file = pq.ParquetFile(
                source,
                page_checksum_verification=True,
                # Local reads stream through a small buffer; remote ones are coalesced.
                pre_buffer=not isinstance(filesystem, pafs.LocalFileSystem),
                buffer_size=_BUFFER_NBYTES,
            )
        except DataError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise corrupt(path, "its footer cannot be read", error) from error
        yield file


def corrupt(path: str, what: str, error: BaseException) -> CorruptFile:
    """Return the error for a file whose bytes do not decode."""
    return CorruptFile(
        f"{scrub(path)}: {what}: {scrub(str(error).strip())}; "
        "the file is damaged, write or copy it again"
    )


def _check_envelope(path: str, source: Any) -> None:
    size = source.size()
    if size == 0:
        raise CorruptFile(f"{scrub(path)}: the file is empty (0 bytes); write or copy it again")
    trailer = source.read_at(_TRAILER_NBYTES, max(size - _TRAILER_NBYTES, 0))
    n_footer = int.from_bytes(trailer[:4], "little")
    if size < _MIN_NBYTES or trailer[4:] != _MAGIC or n_footer > size - _MIN_NBYTES:
        head = source.read_at(len(_MAGIC), 0)
        problem = "the file is truncated" if head == _MAGIC else "not a Parquet file"
        raise CorruptFile(
            f"{scrub(path)}: {problem} ({size} bytes, no Parquet footer at the end); "
            "write or copy it again"
        )
    footer = source.read_at(n_footer, size - _TRAILER_NBYTES - n_footer)
    if any(form in footer for form in _RAY_TYPES):
        raise DataError(
            f"{scrub(path)}: has Ray tensor columns, which are not parsed; "
            "write the vectors as lists of floats"
        )
