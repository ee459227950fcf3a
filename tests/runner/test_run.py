"""Jobs that succeed: what they leave, and that it is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import distclust
from distclust.cli import _listeners
from distclust.data import labels_dataset, verify
from distclust.engine.events import CallRetried
from tests.runner.helpers import ROOT, Data, invoke, start, tree

Job = Callable[..., Path]


def run(*args: str | Path) -> str:
    ended = invoke("run", *args)
    assert ended.code == 0, ended.err
    return ended.out


def labels_of(out: Path) -> Any:
    return pq.read_table(sorted((out / "labels").glob("*.parquet")))


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def test_every_row_gets_its_label_in_place(tmp_path: Path, data: Data, job: Job) -> None:
    run(job())
    expected = distclust.KMeans(n_clusters=3, random_state=0).fit(data.rows)
    table = labels_of(tmp_path / "out")
    assert table.column_names == ["id", "label", "distance"]
    assert table.schema.field("label").type == pa.int32()
    np.testing.assert_array_equal(table["id"], np.arange(150))
    np.testing.assert_array_equal(table["label"], expected.labels_)
    own = expected.cluster_centers_[expected.labels_]
    np.testing.assert_allclose(table["distance"], np.linalg.norm(data.rows - own, axis=1))


def test_output_mirrors_the_input(tmp_path: Path, data: Data, job: Job) -> None:
    run(job())
    written = sorted((tmp_path / "out/labels").glob("*.parquet"))
    assert len(written) == len(data.files)
    for ours, theirs in zip(written, data.files, strict=True):
        assert theirs.stem in ours.name
        metadata, source = pq.read_metadata(ours), pq.read_metadata(theirs)
        assert metadata.num_row_groups == source.num_row_groups
        for i in range(source.num_row_groups):
            assert metadata.row_group(i).num_rows == source.row_group(i).num_rows


def test_everything_is_published_and_nothing_else(tmp_path: Path, job: Job) -> None:
    run(job())
    names = {Path(name).parts[1] for name in tree(tmp_path)}
    assert names == {"labels", "model", "run.json", "status.json", "manifest.json"}
    verify(tmp_path / "out")
    assert labels_dataset(tmp_path / "out").count_rows() == 150


def test_model_predicts_the_same_labels(tmp_path: Path, data: Data, job: Job) -> None:
    run(job())
    model = distclust.load(tmp_path / "out/model")
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert list(model.feature_names_in_) == names
    frame = pd.DataFrame(data.rows, columns=names)
    np.testing.assert_array_equal(model.predict(frame), labels_of(tmp_path / "out")["label"])


def test_run_record(tmp_path: Path, data: Data, job: Job) -> None:
    run(job())
    record = record_of(tmp_path / "out")
    expected = distclust.KMeans(n_clusters=3, random_state=0).fit(data.rows)
    assert record["schema_version"] == 1
    assert record["counts"] == {
        "rows": 150, "files": 3, "features": 4, "retries": 0, "late_replies": 0,
    }  # fmt: skip
    assert record["result"]["n_iter"] == expected.n_iter_
    assert record["result"]["inertia"] == expected.inertia_
    assert record["result"]["inertia_history"] == expected.inertia_history_
    assert record["result"]["cluster_sizes"] == np.bincount(expected.labels_).tolist()
    labels, centers = expected.labels_.astype("<i4"), expected.cluster_centers_.astype("<f8")
    assert record["digests"]["labels_sha256"] == hashlib.sha256(labels.tobytes()).hexdigest()
    assert record["digests"]["centers_sha256"] == hashlib.sha256(centers.tobytes()).hexdigest()
    assert record["versions"]["distclust"] == distclust.__version__
    assert {"open", "connect", "fit", "label", "total"} <= record["seconds"].keys()
    assert record["job"]["algorithm"]["max_iter"] == 300
    assert json.loads((tmp_path / "out/status.json").read_text())["state"] == "done"


@pytest.mark.parametrize(
    "overrides",
    [
        ["backend.partitions=1", "backend.workers=1"],
        ["backend.partitions=7", "backend.workers=2"],
        ["backend.partitions=64", "backend.threads_per_worker=2"],
        ["backend.partitions=null", "backend.workers=null"],
    ],
)
def test_digests_do_not_depend_on_the_partitioning(
    tmp_path: Path, job: Job, overrides: list[str]
) -> None:
    written = job()
    run(written)
    run(written, "--set", "output.path=" + str(tmp_path / "other"), *flags(overrides))
    one, other = record_of(tmp_path / "out"), record_of(tmp_path / "other")
    assert one["digests"] == other["digests"]


def test_digests_do_not_depend_on_how_rows_are_split_into_files(
    tmp_path: Path, data: Data, job: Job
) -> None:
    written = job()
    run(written)
    (tmp_path / "whole").mkdir()
    pq.write_table(pq.read_table(data.files), tmp_path / "whole/all.parquet")
    changes = [f"input.path={tmp_path / 'whole'}", f"output.path={tmp_path / 'other'}"]
    run(written, *flags(changes))
    one, other = record_of(tmp_path / "out"), record_of(tmp_path / "other")
    for name in ("labels_sha256", "centers_sha256"):
        assert one["digests"][name] == other["digests"][name]
    assert one["digests"]["input"] != other["digests"]["input"]


def flags(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def test_explicit_centers_and_weights(tmp_path: Path, data: Data, job: Job) -> None:
    weights = np.arange(150) % 3
    for file in data.files:
        table = pq.read_table(file)
        own = weights[table["id"].to_numpy()]
        pq.write_table(table.append_column("w", pa.array(own)), file)
    init = data.rows[[0, 60, 120]]
    run(job(input={"weight": "w"}, algorithm={"init": init.tolist()}))
    expected = distclust.KMeans(3, init=init, n_init=1).fit(data.rows, sample_weight=weights)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["label"], expected.labels_)
    assert record_of(tmp_path / "out")["result"]["inertia"] == expected.inertia_


def test_vector_column_in_float32(tmp_path: Path, data: Data, job: Job) -> None:
    vectors = data.rows.astype(np.float32)
    for path in data.files:
        path.unlink()
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    pq.write_table(pa.table({"embedding": column}), data.directory / "v.parquet")
    text = job().read_text()
    start_at, end_at = text.index("  columns:"), text.index("  id_columns")
    written = tmp_path / "vector.yaml"
    written.write_text(text[:start_at] + "  vector: embedding\n" + text[end_at:])
    run(written, "--set", "input.id_columns=[]")
    expected = distclust.KMeans(n_clusters=3, random_state=0).fit(vectors)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["label"], expected.labels_)


def test_empty_files_and_row_groups_stay_in_place(tmp_path: Path, data: Data, job: Job) -> None:
    table = pq.read_table(data.files[0])
    pq.write_table(table.slice(0, 0), data.directory / "part-0a.parquet")
    with pq.ParquetWriter(data.directory / "part-0b.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table.slice(0, 5))
    run(job())
    written = sorted((tmp_path / "out/labels").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in written] == [70, 0, 5, 50, 30]


def test_label_alone(tmp_path: Path, job: Job) -> None:
    run(job(output={"columns": []}, input={"id_columns": []}))
    assert labels_of(tmp_path / "out").column_names == ["label"]


def test_the_table_shows_clusters_in_the_columns_of_the_data(
    tmp_path: Path, data: Data, job: Job
) -> None:
    centers = [[5.0, 3.4, 1.5, 0.2], [6.3, 2.9, 4.9, 1.7]]  # setosa, and the two alike
    out = run(job(algorithm={"n_clusters": 2, "init": centers}))
    rows = [line.strip("│").split("│") for line in out.splitlines() if line.startswith("│")]
    sizes = [[cell.strip() for cell in row[:3]] for row in rows]
    assert sizes == [["1", "97", "64.7%"], ["0", "53", "35.3%"]]
    setosa = data.rows[labels_of(tmp_path / "out")["label"].to_numpy() == 0]
    assert [float(cell) for cell in rows[1][4:8]] == pytest.approx(setosa.mean(axis=0), rel=1e-3)
    assert "2 clusters: 150 rows" in out
    assert "petal_length" in out
    assert f"{tmp_path / 'out'}/labels/*.parquet  (id, label, distance; rows in input order)" in out


def test_relative_paths_start_at_the_working_directory(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    written = job().rename(tmp_path / "jobs/job.yaml")
    monkeypatch.chdir(tmp_path)
    run(written, "--set", "input.path=data", "--set", "output.path=results/one")
    assert (tmp_path / "results/one/run.json").is_file()


class TestOverwriting:
    def test_a_finished_output_is_kept(self, tmp_path: Path, job: Job) -> None:
        written = job()
        run(written)
        before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
        ended = invoke("run", written)
        assert ended.code == 2
        assert "overwrite: true" in ended.err
        assert before == {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}

    def test_it_is_replaced_on_demand(self, tmp_path: Path, job: Job) -> None:
        written = job()
        run(written)
        overrides = ["output.overwrite=true", "algorithm.n_clusters=2"]
        run(written, *flags(overrides))
        assert record_of(tmp_path / "out")["job"]["algorithm"]["n_clusters"] == 2
        assert set(labels_of(tmp_path / "out")["label"].to_pylist()) == {0, 1}
        assert len(list((tmp_path / "out/labels").iterdir())) == 3
        verify(tmp_path / "out")

    def test_a_failure_leaves_the_old_one(self, tmp_path: Path, data: Data, job: Job) -> None:
        written = job(output={"overwrite": True})
        run(written)
        before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
        table = pq.read_table(data.files[2])
        spoilt = table["petal_width"].to_numpy().copy()
        spoilt[7] = np.nan
        index = table.column_names.index("petal_width")
        table = table.set_column(index, "petal_width", pa.array(spoilt))
        pq.write_table(table, data.files[2])
        assert invoke("run", written).code == 3
        assert before == {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}


class TestProgress:
    def test_events_as_json_lines(self, tmp_path: Path, job: Job) -> None:
        run(job(), "--events", tmp_path / "logs/events.jsonl")
        lines = (tmp_path / "logs/events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        iterations = [event for event in events if event["event"] == "IterationDone"]
        record = record_of(tmp_path / "out")
        assert len(iterations) == record["result"]["n_iter"]
        assert [e["inertia"] for e in iterations] == record["result"]["inertia_history"]
        done = [e for e in events if e.get("stage") == "writing labels"]
        assert [e["done"] for e in done if e["event"] == "StageProgress"] == [1, 2, 3]

    def test_events_hold_no_secrets(self, tmp_path: Path) -> None:
        with _listeners(quiet=True, events=tmp_path / "events.jsonl") as listeners:
            reason = "tcp://me:hunter2@host:8786 is gone, token=hunter2"
            listeners[0](CallRetried(partition=0, attempt=2, reason=reason))
        record = json.loads((tmp_path / "events.jsonl").read_text())
        assert record["reason"] == "tcp://***@host:8786 is gone, token=***"

    def test_one_line_an_iteration_on_standard_error(self, tmp_path: Path, job: Job) -> None:
        ended = invoke("run", job())
        n_iter = record_of(tmp_path / "out")["result"]["n_iter"]
        lines = [line for line in ended.err.splitlines() if line.startswith("iteration ")]
        assert len(lines) == n_iter
        assert "rows/s" in lines[0]
        assert "iteration 1/" not in ended.out

    def test_quiet(self, job: Job) -> None:
        assert invoke("run", job(), "--quiet").err == ""


@pytest.mark.slow
def test_the_quickstart_as_written_in_its_file(tmp_path: Path) -> None:
    for args in (
        ["-m", "distclust", "example", "pixels", "data/pixels"],
        [ROOT / "jobs/run.py", ROOT / "jobs/quickstart.yaml"],
    ):
        process = start(*args, cwd=tmp_path)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert "16 clusters: 273,280 rows" in out
    table = labels_of(tmp_path / "out/pixels")
    assert table.num_rows == 273_280
    np.testing.assert_array_equal(table["x"].to_numpy()[:700], np.r_[0:640, 0:60])
    assert sum(record_of(tmp_path / "out/pixels")["result"]["cluster_sizes"]) == 273_280


def test_a_job_by_cosine(tmp_path: Path, data: Data, job: Job) -> None:
    run(job(algorithm={"metric": "cosine"}))
    out = tmp_path / "out"
    expected = distclust.KMeans(3, metric="cosine", random_state=0).fit(data.rows)
    table = labels_of(out)
    np.testing.assert_array_equal(table["label"].to_numpy(), expected.labels_)
    np.testing.assert_allclose(table["distance"].to_numpy().sum(), expected.inertia_, rtol=1e-12)
    record = record_of(out)
    assert record["job"]["algorithm"]["metric"] == "cosine"
    assert record["result"]["inertia"] == expected.inertia_
    assert distclust.load(out / "model").metric == "cosine"


def test_a_job_of_bisections(tmp_path: Path, data: Data, job: Job) -> None:
    """Labels in files follow the tree, as those of the estimator do."""
    output = {"path": str(tmp_path / "out"), "columns": ["distance"]}
    said = run(job(algorithm={"name": "bisecting_kmeans", "random_state": 5}, output=output))
    out = tmp_path / "out"
    expected = distclust.BisectingKMeans(3, random_state=5).fit(data.rows)
    table = labels_of(out)
    np.testing.assert_array_equal(table["label"].to_numpy(), expected.labels_)
    sq_dist = table["distance"].to_numpy() ** 2
    np.testing.assert_allclose(sq_dist.sum(), expected.inertia_, rtol=1e-12)
    assert record_of(out)["result"]["inertia"] == expected.inertia_
    assert "inertia" in said
    assert "iterations" not in said
    again = distclust.load(out / "model")
    frame = pd.DataFrame(data.rows, columns=record_of(out)["result"]["feature_names"])
    np.testing.assert_array_equal(again.predict(frame), expected.labels_)


def test_a_job_of_mini_batches(tmp_path: Path, data: Data, job: Job) -> None:
    params = {"batch_size": 40, "max_iter": 20, "random_state": 5}
    said = run(job(algorithm={"name": "minibatch_kmeans", **params}))
    out, record = tmp_path / "out", record_of(tmp_path / "out")
    expected = distclust.MiniBatchKMeans(3, **params).fit(data.rows)
    np.testing.assert_array_equal(labels_of(out)["label"].to_numpy(), expected.labels_)
    result = record["result"]
    assert result["inertia"] == expected.inertia_
    assert (result["n_steps"], result["n_iter"]) == (expected.n_steps_, expected.n_iter_)
    assert result["cluster_sizes"] == expected.cluster_sizes_.tolist()
    assert f"{expected.n_iter_} iterations" in said
    frame = pd.DataFrame(data.rows, columns=result["feature_names"])
    again = distclust.load(out / "model").partial_fit(frame)
    assert again.n_steps_ == expected.n_steps_ + 1
