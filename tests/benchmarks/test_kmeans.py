from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import kmeans, report
from benchmarks.cases import CASES, from_file, make
from benchmarks.contender import Request
from benchmarks.environment import environment
from benchmarks.inertia import inertia
from benchmarks.modes import MODES


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "rows.parquet"
    columns = {f"x{i}": rng.standard_normal(400) for i in range(3)}
    pq.write_table(pa.table({"name": ["row"] * 400, **columns}), path)
    return path


def measured(mode: str, rows: Path, **options: Any) -> list[report.Line]:
    result = rows.with_name("results.jsonl")
    asked = kmeans.Options(
        mode=MODES[mode],
        peers=["sklearn", *options.pop("peers", [])],
        ours=["local"],
        cases=from_file(rows, [4]),
        repeats=2,
        workers=1,
        chunks_per_worker=1,
        dask_input="numpy",
        scale=options.pop("scale", 1.0),
        limit=options.pop("limit", 60.0),
        json=result,
        **options,
    )
    assert kmeans.run(asked) == 0
    lines = [json.loads(line) for line in result.read_text().splitlines()]
    assert all(len(line["seconds"]) == 1 for line in lines)  # written after each fit
    return report.pooled(lines)


@pytest.mark.parametrize("mode", ["iterations", "converge"])
def test_same_centers_lead_to_the_same_inertia(mode: str, rows: Path) -> None:
    peer, ours = measured(mode, rows, peers=["minibatch"])  # which cannot take part
    assert (peer["contender"], ours["contender"]) == ("sklearn", "distclust local")
    assert peer["n_iter"] == ours["n_iter"]
    assert ours["inertia"] == pytest.approx(peer["inertia"], rel=1e-6)
    assert len(ours["seconds"]) == 2
    assert {"cpu", "cores", "date", "versions", "commit"} <= ours.keys()


def test_default_fits_have_a_seed_each(rows: Path) -> None:
    lines = measured("default", rows, peers=["minibatch"])
    assert [line["contender"] for line in lines][:2] == ["sklearn", "sklearn minibatch"]
    assert all(len(line["inertia"]) == 2 for line in lines)


def test_the_first_round_is_always_run_and_no_other_after_the_limit(rows: Path) -> None:
    assert [len(line["seconds"]) for line in measured("converge", rows, limit=0.0)] == [1, 1]


def test_what_was_interrupted_goes_on(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of this commit that the file holds are not run again; those of another one are."""
    about = environment()
    monkeypatch.setattr(kmeans, "environment", lambda: about | {"commit": "one"})
    result = rows.with_name("results.jsonl")
    measured("converge", rows)
    whole = result.read_text().splitlines()
    result.write_text("".join(f"{line}\n" for line in whole[:3]))  # ours has one fit to go
    assert [len(line["seconds"]) for line in measured("converge", rows)] == [2, 2]
    assert result.read_text().splitlines()[:3] == whole[:3]
    assert len(result.read_text().splitlines()) == 4
    measured("converge", rows)
    assert len(result.read_text().splitlines()) == 4
    monkeypatch.setattr(kmeans, "environment", lambda: about | {"commit": "other"})
    measured("converge", rows)
    assert len(result.read_text().splitlines()) == 8


def test_a_part_of_the_rows_is_a_case_of_its_own(rows: Path) -> None:
    lines = measured("iterations", rows, scale=0.5)
    assert {(line["case"], line["n_rows"]) for line in lines} == {("rows k=4 x 0.5", 200)}


def test_doubles_of_the_same_values_are_a_case_of_their_own(rows: Path) -> None:
    """In which rounding decides nothing: everyone ends at the same inertia."""
    peer, ours = measured("converge", rows, dtype="float64")
    assert {line["case"] for line in (peer, ours)} == {"rows k=4 float64"}
    assert ours["inertia"] == pytest.approx(peer["inertia"], rel=1e-12)
    assert ours["n_iter"] == peer["n_iter"]


@pytest.mark.thorough
def test_a_curve_ends_where_a_contender_has_converged(rows: Path) -> None:
    lines = [line for line in measured("curve", rows) if line["contender"] == "distclust local"]
    budgets = [line["budget"] for line in lines]
    assert budgets == list(MODES["curve"].budgets[: len(budgets)])
    assert lines[-1]["n_iter"][0] < lines[-1]["budget"]
    assert lines[-1]["inertia"] <= lines[0]["inertia"]


def test_who_stops_by_another_rule_gets_the_iterations_of_scikit_learn() -> None:
    class Other:
        stops_alike = False

    problem = make(CASES["A"], scale=1e-4)
    ask = {"budget": 300, "seed": 0}
    request = MODES["converge"].request(problem, Other(), reference=7, **ask)
    assert (request.max_iter, request.tol) == (7, 0.0)
    with pytest.raises(ValueError, match="add sklearn"):
        MODES["converge"].request(problem, Other(), reference=None, **ask)


def test_a_request_leaves_what_is_not_asked_to_the_library() -> None:
    assert Request(n_clusters=3).arguments() == {"n_clusters": 3, "random_state": 0}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_centers_of_blobs_are_as_far_apart_as_stated(case: Any) -> None:
    problem = make(case, scale=20_000 / case.n_rows)
    variance = problem.X.var(axis=0, dtype=np.float64).mean()
    within, between = 1.0, case.separation**2 / 2 / case.n_features
    assert variance == pytest.approx(within + between, rel=0.1 if case.name != "D" else 0.3)


def test_vectors_are_read_from_one_column(tmp_path: Path) -> None:
    X = np.arange(24, dtype=np.float32).reshape(8, 3)
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({"v": pa.FixedSizeListArray.from_arrays(X.ravel(), 3)}), path)
    (case,) = from_file(path, [2])
    problem = make(case, scale=0.75)
    np.testing.assert_array_equal(problem.X, X[:6])
    assert inertia(X, X[:1]) == sum(27.0 * i**2 for i in range(8))


def line(contender: str, seconds: list[float], **other: Any) -> report.Line:
    return {
        "mode": "curve", "case": "A", "commit": "new", "budget": 1, "error": None,
        "contender": contender, "seconds": seconds, "n_iter": [1], "inertia": [100.0], **other,
    }  # fmt: skip


def test_rounds_of_one_commit_are_pooled() -> None:
    lines = [
        line("sklearn", [9.0], commit="old"),
        line("sklearn", [1.0, 2.0]),
        line("sklearn", [6.0]),
        line("faiss", [], error="failed"),
    ]
    before = copy.deepcopy(lines)
    (merged,) = report.pooled(lines)
    assert merged["seconds"] == [1.0, 2.0, 6.0]
    assert merged["median_seconds"] == 2.0
    assert lines == before


def test_time_to_an_inertia_is_that_of_the_first_fit_that_reaches_it() -> None:
    curve = report.pooled(
        line("sklearn", [float(b)], budget=b, inertia=[100.0 / b]) for b in (1, 2, 3)
    )
    assert report.seconds_to(60.0, curve) == 2.0
    assert report.seconds_to(10.0, curve) is None


def test_the_short_table_divides_the_fastest_peer_by_ours() -> None:
    lines = report.pooled(
        line(name, [seconds], mode="converge")
        for name, seconds in (("sklearn", 6.0), ("faiss", 3.0), ("distclust local", 2.0))
    )
    assert report.markdown(lines).splitlines()[-1] == "| A | 6 | 3 | 2 | 1.50 |"


def test_results_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import plot

    about = {"cpu": "a CPU", "cores": 2, "date": "2024-06-07T00:00:00+00:00"}
    size = {"n_rows": 10, "n_features": 2, "n_clusters": 2}
    lines = [
        line("sklearn", [1.0], **about, **size),
        line("distclust local", [2.0], **about, **size),
    ]
    lines += [{**one, "mode": "converge"} for one in lines]
    for name, draw in (("plot.png", plot.draw), ("ratios.png", plot.draw_ratios)):
        draw(report.pooled(lines), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
