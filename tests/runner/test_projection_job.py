"""Jobs that project: the ready-made one on every backend, and each projection by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.pipeline import make_pipeline

import distclust
from distclust import KMeans
from distclust.preprocessing import PCA
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)
from distclust.runner.examples import write_example
from distclust.runner.plan import make_plan, open_input
from distclust.runner.run import run_job
from distclust.runner.spec import load_job, parse_job
from tests.runner.helpers import ROOT


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("patches")
    write_example("patches", folder)
    return folder


@pytest.fixture(scope="module")
def vectors(patches: Path) -> np.ndarray:
    column = pq.read_table(patches)["patch"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, 768)


@pytest.fixture(scope="module")
def expected(vectors: np.ndarray) -> Any:
    steps = HadamardRandomProjection(64, random_state=0), KMeans(32, random_state=0)
    return make_pipeline(*steps).fit(vectors)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "backend",
    ["local", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("ray", "dask"))],
)
def test_the_embeddings_job(
    backend: str, patches: Path, expected: Any, vectors: np.ndarray, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    where = {"backend.name": backend, "backend.partitions": 3}
    if backend != "local":
        where |= {"backend.workers": None}
        where |= {"backend.address": request.getfixturevalue(f"{backend}_cluster")}
    out = tmp_path / "out"
    paths = {"input.path": str(patches), "output.path": str(out)}
    job = load_job(ROOT / "jobs/embeddings.yaml").model_dump()
    for key, value in (where | paths).items():
        part, name = key.split(".")
        job[part][name] = value
    run_job(parse_job(job))
    labels = distclust.data.labels_dataset(out).to_table()["label"].to_numpy()
    np.testing.assert_array_equal(labels, expected[-1].labels_)
    model = distclust.load(out / "model")
    for step in model:
        step.set_params(backend="local")
    np.testing.assert_array_equal(model.predict(vectors), labels)
    saved = [
        json.loads(path.read_text())["arrays"] for path in sorted(out.glob("model/*/model.json"))
    ]
    assert saved[0] == {}  # a projection is a seed
    assert saved[1]


STEPS = {
    "gaussian_random_projection": (GaussianRandomProjection, {"n_components": 9}),
    "sparse_random_projection": (SparseRandomProjection, {"n_components": 9, "density": 0.25}),
    "hadamard_random_projection": (HadamardRandomProjection, {"n_components": 9}),
    "pca": (PCA, {"n_components": 0.8, "whiten": True}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", STEPS)
def test_each_by_name(name: str, patches: Path, vectors: np.ndarray, tmp_path: Path) -> None:
    kind, parameters = STEPS[name]
    spec = parse_job(
        {
            "input": {"path": str(patches), "vector": "patch"},
            "preprocess": [{"name": name, **parameters}],
            "algorithm": {"name": "kmeans", "n_clusters": 4, "max_iter": 5, "random_state": 0},
            "backend": {"name": "local", "workers": 2},
            "output": {"path": str(tmp_path / "out")},
        }
    )
    plan = make_plan(spec, open_input(spec))
    report = run_job(spec)
    seeded = {} if kind is PCA else {"random_state": 0}
    step = kind(**parameters, **seeded)
    model = make_pipeline(step, KMeans(4, max_iter=5, random_state=0)).fit(vectors)
    np.testing.assert_array_equal(report.centers, model[-1].cluster_centers_)
    assert (report.original_centers is not None) == step.invertible
    row_bytes = 4 * (768 if kind is PCA else 9)  # how many components PCA keeps, only a fit tells
    assert sum(shard.decoded_bytes for shard in plan.shards) == len(vectors) * row_bytes


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "hadamard_projection"}, "hadamard_random_projection"),
        ({"name": "pca", "n_component": 3}, "n_components"),
        ({"name": "sparse_random_projection", "density": 0}, "density"),
        ({"name": "gaussian_random_projection", "n_components": 0}, "n_components"),
    ],
)
def test_mistakes_are_told(step: dict[str, Any], message: str) -> None:
    job = load_job(ROOT / "jobs/embeddings.yaml").model_dump()
    with pytest.raises(distclust.ConfigError, match=message):
        parse_job({**job, "preprocess": [step]})
