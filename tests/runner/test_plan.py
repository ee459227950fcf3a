"""``distclust plan`` and ``validate``: figures worked out by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.runner.helpers import Data, invoke, start, tree

Job = Callable[..., Path]


def planned(*args: str | Path) -> dict[str, Any]:
    ended = invoke("plan", *args, "--json")
    assert ended.code == 0, ended.err
    figures: dict[str, Any] = json.loads(ended.out)
    return figures


def test_figures(data: Data, job: Job) -> None:
    plan = planned(job())
    assert plan["schema_version"] == 1
    assert plan["data"] | {"digest": ""} == {
        "rows": 150, "features": 4, "kept_features": 4, "files": 3, "dtype": "float64",
        "decoded_bytes": 150 * 4 * 8, "digest": "",
    }  # fmt: skip
    assert plan["iteration"] == {
        "driver_to_worker_bytes": 8 * 3 * 4,
        "driver_to_all_workers_bytes": 8 * 3 * 4,  # two workers are threads of one process
        "partition_reply_bytes": 3 * (8 * 4 + 16),
        "all_replies_bytes": 4 * 3 * (8 * 4 + 16),
        "flops": 2 * 150 * 3 * 4,
    }
    shards = plan["shards"]
    assert shards["count"] == 4
    # Row groups of 20,20,20,10 + 20,20,10 + 20,10 rows: largest first to the lightest of four
    # gives 20+20, 20+20, 20+10+10, 20+10 of the nine.
    assert sorted(each["rows"] for each in shards["each"]) == [30, 40, 40, 40]
    assert shards["rows"] == {"min": 30, "median": 40, "max": 40}
    assert shards["decoded_bytes"]["max"] == 40 * 32


def test_memory_of_a_process_that_holds_everything(job: Job) -> None:
    memory = planned(job())["worker_memory_bytes"]
    assert memory["resident"] == 150 * 32 + 150 * 13
    assert memory["on_disk"] == 0
    assert memory["passing"] == 150 * 32 + 2 * 40 * 48  # two partitions at once
    batch = 8 * 4 * 65_536
    assert memory["loading"] == 2 * (2 * batch + 4 * (2 << 20))
    parts = ("resident", "passing", "loading", "kernels", "state", "runtime")
    assert memory["peak"] == sum(memory[part] for part in parts)


def test_rows_of_unit_length_take_no_more(job: Job) -> None:
    """They are streamed: the rows as they were are never held."""
    plain, cosine = (
        planned(job(algorithm={"metric": metric}))["worker_memory_bytes"]
        for metric in ("euclidean", "cosine")
    )
    assert cosine == plain


def test_what_exceeds_the_limit_is_on_disk(job: Job, tmp_path: Path) -> None:
    """The limit leaves 3000 bytes for rows: two partitions of 40 or 30 rows of 32 bytes."""
    limit = (512 << 20) + 4500
    limits = {"memory_limit": limit, "scratch_dir": str(tmp_path / "scratch")}
    plan = planned(job(backend=limits))
    memory = plan["worker_memory_bytes"]
    assert (memory["resident"], memory["on_disk"]) == (3000, 150 * (32 + 13) - 3000)
    assert plan["backend"]["memory_limit_bytes"] == limit
    assert [each["on_disk"] for each in plan["shards"]["each"]].count(True) == 2
    assert plan["shards"]["on_disk"] == 2
    out = invoke("plan", job(backend=limits)).out
    assert "3.7 KiB in" in out
    assert "may exceed the memory limit" in out


def test_each_worker_process_has_its_own_limit(job: Job) -> None:
    plan = planned(job(backend={"name": "ray", "memory_limit": (512 << 20) + 4500}))
    assert not any(each["on_disk"] for each in plan["shards"]["each"])  # 80 rows of 32 bytes
    assert plan["worker_memory_bytes"]["on_disk"] == 80 * 45 - 3000


@pytest.mark.parametrize("limit", ["plenty", 0, "100MiB"])
def test_a_limit_that_is_none(job: Job, limit: str | int) -> None:
    ended = invoke("plan", job(backend={"memory_limit": limit}))
    assert ended.code == 2
    assert "backend.memory_limit" in ended.err


def test_a_process_a_worker_holds_its_share(job: Job) -> None:
    plan = planned(job(), "--set", "backend.name=ray")
    memory = plan["worker_memory_bytes"]
    assert plan["backend"]["processes"] == 2
    assert memory["resident"] == 80 * (32 + 13)  # the two largest of four partitions
    assert plan["iteration"]["driver_to_all_workers_bytes"] == 2 * 8 * 3 * 4


@pytest.mark.parametrize(
    ("params", "runs"),
    [
        ({"n_init": 4}, 4),
        ({"init": "random"}, 10),
        ({"init": np.eye(3, 4).tolist(), "n_init": 9}, 1),
    ],
)
def test_runs_with_different_seeds_go_side_by_side(
    job: Job, params: dict[str, Any], runs: int
) -> None:
    one, several = planned(job()), planned(job(algorithm=params))
    for figure in ("driver_to_worker_bytes", "all_replies_bytes", "flops"):
        assert several["iteration"][figure] == runs * one["iteration"][figure]
    memory = several["worker_memory_bytes"]["resident"] - one["worker_memory_bytes"]["resident"]
    assert memory == 150 * 13 * (runs - 1)


def test_a_step_of_mini_batches_looks_at_a_batch(job: Job) -> None:
    small = {"name": "minibatch_kmeans", "batch_size": 50}
    iteration = planned(job(algorithm=small))["iteration"]
    assert iteration["flops"] == 2 * 50 * 3 * 4
    assert iteration["driver_to_worker_bytes"] == 8 * 3 * 4 + 8 * 50
    large = planned(job(algorithm={**small, "batch_size": 1000}))["iteration"]
    assert large["flops"] == 2 * 150 * 3 * 4


def test_float32_halves_what_is_sent(job: Job) -> None:
    plan = planned(job(), "--set", "input.dtype=float32")
    assert plan["iteration"]["driver_to_worker_bytes"] == 4 * 3 * 4
    assert plan["data"]["decoded_bytes"] == 150 * 4 * 4


def test_what_is_assumed_is_said(job: Job) -> None:
    overrides = ["--set", "backend.name=dask", "--set", "backend.workers=null"]
    assert "backend.workers is not set" in planned(job(), *overrides)["backend"]["assumed"][0]
    shown = invoke("plan", job(), *overrides).out
    assert "assumed" in shown


def test_a_plan_for_people(job: Job) -> None:
    out = invoke("plan", job()).out
    assert "4 partitions of 150 rows" in out
    assert "3 files, 4 features, float64" in out
    assert "local: 2 workers x 1 threads in 1 process" in out
    assert "144 B an iteration" in out


@pytest.mark.parametrize("command", ["plan", "validate"])
def test_nothing_is_written(tmp_path: Path, job: Job, command: str) -> None:
    assert invoke(command, job()).code == 0
    assert tree(tmp_path) == set()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["plan", "validate"])
@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("algorithm.n_clusters=1000", 2),
        ("algorithm.clusters=3", 2),
        ("input.columns=[petal]", 3),
        ("input.path=nowhere", 3),
    ],
)
def test_mistakes_have_the_exit_codes_of_a_run(
    job: Job, command: str, override: str, code: int
) -> None:
    assert invoke(command, job(), "--set", override).code == code


def test_validate_says_what_is_there(job: Job) -> None:
    out = invoke("validate", job()).out
    assert out.endswith("is valid: 150 rows in 3 files, 4 features (float64)\n")


def test_validate_finds_a_finished_output(tmp_path: Path, job: Job) -> None:
    written = job()
    assert invoke("run", written).code == 0
    assert invoke("validate", written).code == 2
    assert invoke("validate", written, "--set", "output.overwrite=true").code == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_real_peak_stays_under_the_prediction(tmp_path: Path, job: Job) -> None:
    """Two million rows of eight float32: 61 MiB, and once room for 8 MiB of them."""
    rows = np.random.default_rng(0).random((2_000_000, 8), dtype=np.float32)
    (tmp_path / "data/big").mkdir()
    for i, part in enumerate(np.array_split(rows, 4)):
        table = pa.table({f"x{j}": part[:, j] for j in range(8)})
        pq.write_table(table, tmp_path / f"data/big/{i}.parquet", row_group_size=125_000)
    algorithm = {"n_clusters": 20, "max_iter": 3}
    measure = (
        "import sys\nfrom pathlib import Path\nfrom distclust.cli import app\n"
        "app(['run', sys.argv[1], '--quiet'], standalone_mode=False)\n"
        "sys.stdout.write(Path('/proc/self/status').read_text())"
    )
    labels = []
    for limit in ("2GiB", "524MiB"):
        backend = {"partitions": 8, "memory_limit": limit, "scratch_dir": str(tmp_path)}
        output = tmp_path / limit
        text = job(algorithm=algorithm, backend=backend, output={"path": str(output)}).read_text()
        head, _, tail = text.partition("input:")
        rest = tail[tail.index("output:") :]
        big = tmp_path / "data/big.yaml"
        big.write_text(f"{head}input: {{path: {tmp_path / 'data/big'}}}\n{rest}")
        plan = planned(big)
        assert plan["shards"]["on_disk"] == (0 if limit == "2GiB" else 7)
        process = start("-c", measure, big, cwd=tmp_path)
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        peak = int(out.partition("VmHWM:")[2].split()[0]) * 1024  # the figure is in KiB
        assert peak <= plan["worker_memory_bytes"]["peak"]
        labels.append(json.loads((output / "manifest.json").read_text())["labels_sha256"])
    assert labels[0] == labels[1]
