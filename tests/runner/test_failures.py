"""Jobs that fail: the exit code, the one message, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distclust.errors import ClusterTimeout
from distclust.runner import algorithms
from distclust.runner import run as run_module
from tests.runner.helpers import Data, Ended, invoke, tree

Job = Callable[..., Path]
LAST = "part-2.parquet"


def change(column: str, to: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Rewrite one column of a file."""

    def rewrite(path: Path) -> None:
        table = pq.read_table(path)
        index = table.column_names.index(column)
        changed = pa.array(to(table[column].to_numpy().copy()))
        table = table.set_column(index, column, changed)
        pq.write_table(table, path, row_group_size=20, write_page_checksum=True)

    return rewrite


def put(value: float) -> Callable[[Any], Any]:
    def change_one(values: Any) -> Any:
        values[25] = value
        return values

    return change_one


def null(values: Any) -> Any:
    return pa.array(values, mask=np.arange(len(values)) == 25)


def drop(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["petal_width"]), path)


def flip(path: Path) -> None:
    metadata = pq.read_metadata(path).row_group(1).column(4)
    content = bytearray(path.read_bytes())
    content[metadata.data_page_offset + metadata.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def spoil_all(path: Path) -> None:
    for file in path.parent.iterdir():
        pq.write_table(pq.read_table(file).slice(0, 0), file)


BAD_DATA: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "NaN": (change("petal_width", put(np.nan)), [LAST, "row group 1", "'petal_width'", "row 25"]),
    "infinity": (change("petal_width", put(np.inf)), [LAST, "'petal_width'", "row 25"]),
    "null": (change("petal_width", null), [LAST, "'petal_width'", "row 25"]),
    "text": (change("petal_width", lambda v: [str(x) for x in v]), [LAST, "'petal_width'"]),
    "beyond 2**53": (
        change("petal_width", lambda v: np.arange(len(v)) + 2**53), [LAST, "'petal_width'"],
    ),
    "missing column": (drop, [LAST, "'petal_width'"]),
    "no rows": (spoil_all, ["zero rows"]),
    "empty file": (empty, [LAST, "empty"]),
    "truncated": (truncate, [LAST, "truncated"]),
    "flipped bit": (flip, [LAST, "row group 1", "damaged"]),
}  # fmt: skip


def check_nothing_left(tmp_path: Path, ended: Ended, code: int) -> None:
    assert ended.code == code, ended.err
    assert tree(tmp_path) == set()
    assert not (tmp_path / "out").exists()
    assert ended.out == ""
    assert ended.err.count("error: ") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_located(tmp_path: Path, data: Data, job: Job, name: str) -> None:
    spoil, expected = BAD_DATA[name]
    spoil(data.directory / LAST)
    ended = invoke("run", job(), "--quiet")
    check_nothing_left(tmp_path, ended, 3)
    for part in expected:
        assert part in ended.err


def test_data_that_is_not_there(tmp_path: Path, job: Job) -> None:
    ended = invoke("run", job(input={"path": str(tmp_path / "nowhere/*.parquet")}))
    check_nothing_left(tmp_path, ended, 3)
    assert "nowhere" in ended.err


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"input": {"columns": ["petal_width", "petal_lenght"]}}, "petal_length"),
        ({"input": {"id_columns": ["idd"]}}, "'idd'"),
    ],
)
def test_a_wrong_column_name_is_bad_data(
    tmp_path: Path, job: Job, changes: dict[str, Any], expected: str
) -> None:
    ended = invoke("run", job(**changes))
    check_nothing_left(tmp_path, ended, 3)
    assert expected in ended.err
    assert "part-0.parquet" in ended.err


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": {"n_clusters": 151}}, "n_samples=150 should be >= n_clusters=151"),
        ({"algorithm": {"init": [[0.0] * 4, [1.0] * 4]}}, "init has 2 centers, but"),
        ({"algorithm": {"init": [[0.0] * 4, [1.0] * 4, [1.0]]}}, "init[2] has 1 numbers, but"),
        ({"algorithm": {"n_cluster": 3}}, "did you mean algorithm.n_clusters?"),
        ({"output": {"path": "{tmp}/data"}}, "holds the input file"),
        ({"output": {"path": "{tmp}"}}, "holds the input file"),
        ({"output": {"path": "{tmp}/job.yaml/out"}}, "output.path cannot be used"),
        ({"output": {"path": "nosuch://bucket/out"}}, "nosuch"),
    ],
)
def test_a_bad_configuration_is_refused_before_a_cluster_starts(
    tmp_path: Path,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    expected: str,
) -> None:
    monkeypatch.setattr(run_module, "connect", lambda *_, **__: pytest.fail("connected"))
    for section in changes.values():
        if "path" in section:
            section["path"] = section["path"].format(tmp=tmp_path)
    ended = invoke("run", job(**changes))
    check_nothing_left(tmp_path, ended, 2)
    assert expected in ended.err


def test_an_id_column_cannot_hide_the_label(tmp_path: Path, data: Data, job: Job) -> None:
    for path in data.files:
        table = pq.read_table(path)
        pq.write_table(table.rename_columns(["label", *table.column_names[1:]]), path)
    ended = invoke("run", job(input={"id_columns": ["label"]}))
    check_nothing_left(tmp_path, ended, 2)


def test_a_file_that_is_no_job(tmp_path: Path) -> None:
    ended = invoke("run", tmp_path / "missing.yaml")
    assert ended.code == 2
    assert ended.err.startswith("error: cannot read the job file")


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise ClusterTimeout("no answer from tcp://me:hunter2@10.0.0.1:8786 within 30 s")

    monkeypatch.setattr(run_module, "connect", silent)
    ended = invoke("run", job())
    check_nothing_left(tmp_path, ended, 4)
    assert "no answer" in ended.err
    assert "hunter2" not in ended.err


def breaking(block: Any) -> Any:
    raise RuntimeError(f"cannot label row {block.row_start} with token=hunter2")


@pytest.fixture
def breaks_while_labelling(monkeypatch: pytest.MonkeyPatch) -> None:
    kmeans = algorithms.ALGORITHMS["kmeans"]

    def build(spec: Any, n_partitions: int) -> Any:
        model = kmeans.build(spec, n_partitions)
        model.scorer = lambda columns: breaking
        return model

    monkeypatch.setitem(algorithms.ALGORITHMS, "kmeans", replace(kmeans, build=build))


@pytest.mark.usefixtures("breaks_while_labelling")
class TestWorkerFailure:
    def test_it_is_a_cluster_failure(self, tmp_path: Path, job: Job) -> None:
        ended = invoke("run", job(), "--quiet")
        check_nothing_left(tmp_path, ended, 4)
        assert "cannot label row" in ended.err
        assert "hunter2" not in ended.err

    def test_debug_shows_where(self, job: Job) -> None:
        ended = invoke("run", job(), "--quiet", "--debug")
        assert ended.code == 4
        assert "in breaking" in ended.err
        assert "hunter2" not in ended.err

    def test_the_status_file_says_so(self, tmp_path: Path, job: Job) -> None:
        status = tmp_path / "logs/status.json"
        assert invoke("run", job(output={"status": str(status)})).code == 4
        record = json.loads(status.read_text())
        assert (record["state"], record["exit_code"]) == ("cluster failure", 4)
        assert "cannot label row" in record["message"]
        assert tree(tmp_path) == {"logs/status.json"}


def test_the_status_file_of_a_success(tmp_path: Path, job: Job) -> None:
    status = tmp_path / "status.json"
    assert invoke("run", job(output={"status": str(status)})).code == 0
    assert json.loads(status.read_text())["state"] == "done"


def test_a_defect_is_reported_as_one(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(run_module, "check_job", defect)
    ended = invoke("run", job())
    check_nothing_left(tmp_path, ended, 1)
    assert "unexpected ZeroDivisionError: division by zero" in ended.err


def test_storage_that_fails_while_publishing(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device", "run.json")

    monkeypatch.setattr(run_module, "write_json", full)
    ended = invoke("run", job(), "--quiet")
    check_nothing_left(tmp_path, ended, 4)
    assert "No space left on device" in ended.err


def test_events_that_cannot_be_written(tmp_path: Path, job: Job) -> None:
    ended = invoke("run", job(), "--events", tmp_path / "job.yaml/events")
    check_nothing_left(tmp_path, ended, 2)


def test_a_warning_is_one_line(tmp_path: Path, data: Data, job: Job) -> None:
    for path in data.files:
        for name in ("sepal_length", "sepal_width", "petal_length", "petal_width"):
            change(name, np.ones_like)(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "default")
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("default")
            ended = invoke("run", job(), "--quiet")
    assert ended.code == 0
    assert ended.err.startswith("warning: Number of distinct clusters (1) found smaller")
    assert ended.err.count("\n") == 1
