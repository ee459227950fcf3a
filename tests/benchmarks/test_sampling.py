from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import results, sampling
from benchmarks.density_data import Size


@pytest.mark.thorough
def test_samples_are_measured_beside_the_full_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    file, png = tmp_path / "results.jsonl", tmp_path / "plot.png"
    asked = sampling.Options(
        data=["heavy"],
        size=Size(6000, 3),
        k=5,
        sample_sizes=[200, 6000],
        samplings=["uniform", "coreset"],
        sklearn=True,
        seeds=2,
        workers=2,
        json=file,
        png=png,
    )
    assert sampling.run(asked) == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    names = [(line["contender"], line["sample_size"]) for line in lines]
    everyone = ["full", "full, seeded on all", "sklearn"]
    assert names[:4] == [*((name, None) for name in everyone), ("uniform", 200)]
    assert lines[0]["ari_to_full"] == [1.0, 1.0]
    assert lines[0]["inertia_to_full"] == lines[0]["speed_to_full"] == 1.0
    everything = lines[names.index(("uniform", 6000))]
    assert everything["inertia"] == lines[0]["inertia"]  # the same rows, the same seed
    assert everything["ari_to_full"] == [1.0, 1.0]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert {"cpu", "cores", "date", "versions", "commit"} <= lines[0].keys()
    capsys.readouterr()
    assert results.show([file], png=None) == 0
    assert "| heavy, 6,000 x 3, k=5 | coreset | 200 |" in capsys.readouterr().out


@pytest.mark.parametrize("kind", sampling.DATA)
def test_rows_are_the_same_every_time_and_finite(kind: str) -> None:
    X = sampling.make(kind, Size(1000, 4))
    assert X.shape == (1000, 4)
    assert X.dtype == np.float32
    assert np.isfinite(X).all()
    np.testing.assert_array_equal(X, sampling.make(kind, Size(1000, 4)))
