"""The benchmark of projections: its records, table and plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import projection, results


def test_projections_are_measured_beside_scikit_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    file, png = tmp_path / "results.jsonl", tmp_path / "plot.png"
    asked = projection.Options(
        cases=[projection.Case.parse("2000x100:10")],
        contenders=["sklearn-gaussian", "gaussian"],
        repeats=2,
        workers=1,
        json=file,
        png=png,
    )
    assert projection.run(asked) == 0
    theirs, ours = (json.loads(line) for line in file.read_text().splitlines())
    assert (theirs["contender"], ours["contender"]) == ("sklearn-gaussian", "gaussian")
    assert 0 < ours["distortion_99"] < 2
    assert len(ours["seconds"]) == 2
    assert {"cpu", "cores", "date", "versions", "commit"} <= ours.keys()
    assert png.read_bytes().startswith(b"\x89PNG")
    png.unlink()
    capsys.readouterr()
    assert results.show([file], png=png) == 0
    assert "2,000 x 100 -> 10" in capsys.readouterr().out
    assert png.read_bytes().startswith(b"\x89PNG")
