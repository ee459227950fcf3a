from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import city_map, density, density_predict, density_report, density_ties, results
from benchmarks.density_data import Size, make
from benchmarks.memory import peak_memory


def measured(tmp_path: Path) -> list[density_report.Line]:
    result = tmp_path / "results.jsonl"
    asked = density.Options(
        peers=["exact", "sklearn"],
        ours=["local"],
        sizes=[Size(600, 2)],
        min_samples=5,
        min_cluster_size=10,
        partitions=[1],
        repeats=2,
        limit=60.0,
        patience=60.0,
        workers=1,
        json=result,
    )
    assert density.run(asked) == 0
    return [json.loads(line) for line in result.read_text().splitlines()]


@pytest.mark.thorough
def test_exact_contenders_find_trees_of_the_same_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hdbscan")
    exact, sklearn, ours = measured(tmp_path)
    for line in (exact, sklearn, ours):
        assert line["tree_weight"] == pytest.approx(exact["tree_weight"], rel=1e-12)
        assert line["reference"] == "hdbscan exact"
        assert line["n_clusters"] == exact["n_clusters"] > 10
        assert len(line["seconds"]) == 2
    assert exact["same_labels"]
    assert not ours["same_labels"]
    assert ours["differing_rows"] > 0
    assert sklearn["only_ties_differ"]
    assert ours["only_ties_differ"]
    assert ours["contender"] == "distclust local P=1"
    assert {"cpu", "cores", "date", "versions", "commit"} <= ours.keys()
    printed = capsys.readouterr().out
    png = tmp_path / "results.png"
    assert results.show([tmp_path / "results.jsonl"], png=png) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out.strip().splitlines()
    assert table[-1] in printed


def linkage_of(X: np.ndarray, shuffled: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The package's linkage and labels, of the rows in another order."""
    hdbscan = pytest.importorskip("hdbscan")
    order = shuffled.permutation(len(X))
    model = hdbscan.HDBSCAN(min_cluster_size=8, min_samples=3, algorithm="generic").fit(X[order])
    linkage = model.single_linkage_tree_.to_numpy()
    rows = np.append(order, np.arange(len(X), 2 * len(X)))  # leaves are numbered as in X again
    linkage[:, :2] = rows[linkage[:, :2].astype(int)]
    labels = np.empty(len(X), int)
    labels[order] = model.labels_
    return linkage, labels


def test_disagreements_are_ties_only_if_hierarchies_agree_and_labels_follow() -> None:
    rng = np.random.default_rng(0)
    X = np.rint(rng.normal(size=(400, 2)) * 4 + rng.integers(0, 3, (400, 1)) * 12)
    one, labels = linkage_of(X, rng)
    other, others = linkage_of(X, rng)
    assert density_ties.differing_rows(labels, others) > 0
    proof = density_ties.only_ties_differ
    assert proof(one, labels, other, others, 8)

    wrong = others.copy()
    wrong[np.flatnonzero(others == 0)[:1]] = -1
    assert not proof(one, labels, other, wrong, 8)
    higher = other.copy()
    higher[-1, 2] *= 1.001
    assert not proof(one, labels, higher, others, 8)
    elsewhere = np.where(other == 0, 1, np.where(other == 1, 0, other))[:, :2]
    assert not proof(one, labels, np.c_[elsewhere, other[:, 2]], others, 8)


def line(contender: str, seconds: float, **other: object) -> density_report.Line:
    return {
        "case": "10 x 2", "contender": contender, "ours": False, "error": None,
        "median_seconds": seconds, **other,
    }  # fmt: skip


def test_the_short_table_has_seconds_and_ratios_to_the_first_of_ours() -> None:
    lines = [
        line("hdbscan", 6.0),
        line("sklearn", 0.0, error="failed"),
        line("distclust local", 2.0, ours=True),
        line("distclust ray", 3.0, ours=True),
    ]
    assert density_report.markdown(lines).splitlines()[-1] == "| 10 x 2 | 6 (3x) | 2 | 3 |"


def test_what_was_measured_or_would_take_too_long_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = density.Options(
        peers=["hdbscan", "sklearn"],
        ours=[],
        sizes=[Size(100_000, 2), Size(1_000_000, 2)],
        min_samples=5,
        min_cluster_size=10,
        partitions=[],
        repeats=1,
        limit=60.0,
        patience=99.0,
        workers=1,
        json=tmp_path / "results.jsonl",
    )
    common = {
        "benchmark": "hdbscan", "min_samples": 5, "min_cluster_size": 10, "workers": 1,
        "n_rows": 100_000, "n_features": 2, "commit": "old", "place": "here",
        "peak_nbytes": None, "tree_weight": None, "n_clusters": 3, "noise_fraction": 0.1,
        "ari": 1.0, "same_labels": True, "reference": "hdbscan", "cpu_seconds": [1.0],
    }  # fmt: skip
    lines = [
        {**line(name, 10.0), **common, "case": "100,000 x 2", "seconds": [10.0]}
        for name in ("hdbscan", "sklearn")
    ]
    asked.json.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert density.run(asked) == 0
    printed = capsys.readouterr().out
    assert printed.count("was measured before") == 2
    assert printed.count("would take 100 s or more") == 1
    assert printed.count("stays out beyond 100,000") == 1
    assert len(asked.json.read_text().splitlines()) == 2


@pytest.mark.thorough
def test_new_rows_get_the_labels_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("hdbscan")
    result = tmp_path / "results.jsonl"
    assert density_predict.measure([Size(3000, 2)], 500, 5, 15, 2, result) == 0
    line = json.loads(result.read_text())
    assert line["differing_rows"] == 0
    assert line["ratio"] == pytest.approx(line["hdbscan_seconds"] / line["median_seconds"], rel=0.1)


def test_rows_are_the_same_every_time_and_finite() -> None:
    size = Size.parse("1000x3")
    X = make(size)
    assert X.shape == size
    np.testing.assert_array_equal(X, make(size))
    assert np.isfinite(X).all()


def test_peak_memory_is_seen_after_it_was_freed() -> None:
    pytest.importorskip("psutil")
    with peak_memory() as memory:
        np.ones(8 << 20)  # 64 MiB
    assert memory.nbytes is None or 60 << 20 < memory.nbytes < 90 << 20


def test_close_clusters_have_different_colors() -> None:
    longitude = np.repeat(np.linspace(-3.0, 3.0, 30), 5)
    label = np.repeat(np.arange(30), 5)
    colors = city_map.spread_colors(np.zeros(150), longitude, label)
    assert all(colors[c] not in colors[c + 1 : c + 4] for c in range(30))


def test_the_map_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    ids = np.arange(300, dtype=np.int32)
    angles = {name: rng.uniform(-1, 1, 300) for name in ("latitude", "longitude")}
    pq.write_table(pa.table({"id": ids, **angles}), tmp_path / "places.parquet")
    (tmp_path / "out" / "labels").mkdir(parents=True)
    labels = pa.table({"id": ids, "label": rng.integers(-1, 3, 300, dtype=np.int32)})
    pq.write_table(labels, tmp_path / "out" / "labels" / "0.parquet")
    png = tmp_path / "map.png"
    assert city_map.draw(tmp_path / "out", tmp_path / "places.parquet", png) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
