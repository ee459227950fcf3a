"""Spherical K-Means: by hand, against plain NumPy, and the same bits everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import distclust
from distclust import DataError, KMeans
from distclust.backends.local import LocalBackend
from distclust.data.blocks import Block
from tests.cluster.helpers import blobs, digest, row_weights


def spherical(k: int = 6, **params: Any) -> KMeans:
    return KMeans(k, metric="cosine", **{"random_state": 3, "max_iter": 12, **params})


def test_by_hand() -> None:
    X = np.array([[2.0, 0.0], [0.0, 5.0], [3.0, 3.0], [0.0, -1.0]])
    model = KMeans(2, metric="cosine", init=[[1.0, 1.0], [0.0, -9.0]]).fit(X)
    root = 0.5**0.5
    assert model.labels_.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(model.cluster_centers_, [[root, root], [0, -1]], rtol=1e-15)
    assert model.inertia_ == pytest.approx(2 * (1 - root), rel=1e-14)
    assert model.inertia_history_[-1] == pytest.approx(model.inertia_, rel=1e-12)
    np.testing.assert_allclose(model.transform([[0.0, 7.0]]), [[1 - root, 2]], rtol=1e-15)
    assert model.score([[0.0, 7.0]], sample_weight=[3.0]) == pytest.approx(-3 * (1 - root))
    assert model.predict([[0.0, 1e-320], [0.0, -1e300]]).tolist() == [0, 1]


def test_rows_that_cancel_out_leave_their_center_where_it_was() -> None:
    X = np.array([[1.0, 0.0], [-1.0, 0.0]])
    model = KMeans(1, metric="cosine", init=[[3.0, 4.0]]).fit(X)
    assert model.cluster_centers_.tolist() == [[0.6, 0.8]]
    assert model.inertia_ == pytest.approx(2.0)


def plain(X: np.ndarray, centers: np.ndarray, n_iter: int, weights: np.ndarray) -> Any:
    """Spherical K-Means as one would write it down."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    for _ in range(n_iter):
        labels = (unit @ centers.T).argmax(axis=1)
        sums = [weights[labels == c] @ unit[labels == c] for c in range(len(centers))]
        centers = np.array([s / np.linalg.norm(s) for s in sums])
    cosines = unit @ centers.T
    return cosines.argmax(axis=1), centers, (weights * (1 - cosines.max(axis=1))).sum()


def text_rows() -> np.ndarray:
    """TF-IDF of real English: the descriptions of scikit-learn's data sets, line by line."""
    loaders = ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")
    text = [getattr(datasets, f"load_{name}")().DESCR for name in loaders]
    lines = [line for each in text for line in each.splitlines() if len(line.split()) > 4]
    rows = TfidfVectorizer(norm=None).fit_transform(lines).toarray()
    return rows[rows.any(axis=1)]


@pytest.mark.parametrize("name", ["digits", "text", "blobs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_equals_plain_spherical_kmeans(name: str, weighted: bool) -> None:
    sets = {"digits": lambda: datasets.load_digits().data, "text": text_rows, "blobs": blobs}
    X, k, n_iter = sets[name](), 8, 9
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X)) if weighted else np.ones(len(X))
    init = np.array([X[start::k].mean(axis=0) for start in range(k)])  # no cosine is zero
    labels, centers, inertia = plain(X, init, n_iter, weights)
    model = KMeans(k, metric="cosine", init=init, max_iter=n_iter, tol=0)
    model.fit(X, sample_weight=weights if weighted else None)
    np.testing.assert_array_equal(model.labels_, labels)
    np.testing.assert_allclose(model.cluster_centers_, centers, atol=1e-12)
    assert model.inertia_ == pytest.approx(inertia, rel=1e-12)


def test_the_inertia_never_rises() -> None:
    history = spherical(max_iter=40, tol=0).fit(blobs()).inertia_history_
    assert len(history) > 5
    assert history == sorted(history, reverse=True)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
@pytest.mark.parametrize("n", [600, 9000])
def test_lengths_do_not_matter(init: str, n: int) -> None:
    X = np.array(blobs(n))
    factors = 2.0 ** np.random.default_rng(0).integers(-300, 300, n)[:, np.newaxis]
    one, other = (spherical(init=init, n_init=1).fit(rows) for rows in (X, X * factors))
    assert digest(one) == digest(other)
    np.testing.assert_allclose(np.linalg.norm(one.cluster_centers_, axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_partitions", [2, 7, 64])
@pytest.mark.parametrize("n", [3000, 9000])
def test_partitions_threads_and_sparse_rows(n_partitions: int, dtype: str, n: int) -> None:
    X = np.where(np.abs(blobs(n, dtype=dtype)) > 4, blobs(n, dtype=dtype), 0).astype(dtype)
    X[:, 0] += 1
    weights = row_weights(n)
    with LocalBackend(workers=1) as backend:
        one = spherical(backend=backend, n_partitions=1).fit(X, sample_weight=weights)
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        model = spherical(backend=backend, n_partitions=n_partitions)
        assert digest(model.fit(X, sample_weight=weights)) == digest(one)
        assert digest(model.fit(sp.csr_matrix(X), sample_weight=weights)) == digest(one)
        np.testing.assert_array_equal(model.predict(sp.csr_matrix(X)), one.labels_)
        assert model.score(X, sample_weight=weights) == -one.inertia_


@pytest.mark.parametrize("cluster", ["ray", "dask"])
def test_clusters(cluster: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(f"{cluster}_cluster")
    with distclust.connect(cluster, address=address) as backend:
        model = spherical(backend=backend, n_partitions=5).fit(blobs())
        np.testing.assert_array_equal(model.predict(blobs()), model.labels_)
    assert digest(model) == digest(spherical().fit(blobs()))


def test_rows_in_any_order_of_columns_of_a_sparse_row() -> None:
    X = sp.csr_matrix(np.array(blobs(500)))
    shuffled = X[:, ::-1].tocsr()[:, ::-1].tocsr()  # the same rows, columns out of order
    shuffled.has_sorted_indices = False
    for i in range(500):
        row = slice(shuffled.indptr[i], shuffled.indptr[i + 1])
        shuffled.indices[row] = shuffled.indices[row][::-1].copy()
        shuffled.data[row] = shuffled.data[row][::-1].copy()
    assert digest(spherical().fit(X)) == digest(spherical().fit(shuffled))


def test_rows_are_not_modified() -> None:
    for X in (np.array(blobs(500)), sp.csr_matrix(np.array(blobs(500)))):
        before = X.copy()
        spherical(n_partitions=1).fit(X).predict(X)
        assert abs(X - before).sum() == 0


# Rows of zeros --------------------------------------------------------------------------------


def test_a_row_of_zeros_is_located() -> None:
    X = np.array(blobs(5000))
    model = spherical().fit(X)
    X[4321] = 0
    for use in (spherical().fit, model.predict, model.transform, model.score):
        for rows in (X, sp.csr_matrix(X)):
            with pytest.raises(DataError, match="row 4321 of the input: the row is all zeros"):
                use(rows)
    with pytest.raises(DataError, match="row 4321 of"):
        model.scorer(["label"])(Block(X, 0))


def test_a_row_of_zeros_of_a_file_is_located(tmp_path: Path) -> None:
    X = np.array(blobs(1000))
    X[777] = 0
    for i in range(2):
        part = pd.DataFrame(X[500 * i : 500 * (i + 1)], columns=list("abcde"))
        pq.write_table(pa.table(part), tmp_path / f"{i}.parquet", row_group_size=200)
    with pytest.raises(DataError, match=r"1\.parquet: row group 1, row 77 of it: the row is all"):
        spherical(n_partitions=3).fit(tmp_path)


def test_an_initial_center_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="initial center 1 is all zeros"):
        spherical(2, init=np.array([[1.0] * 5, [0.0] * 5])).fit(blobs(500))


# Models ---------------------------------------------------------------------------------------


def test_a_model_is_read_back(tmp_path: Path) -> None:
    model = spherical().fit(blobs())
    model.save(tmp_path)
    read = distclust.load(tmp_path)
    assert read.metric == "cosine"
    np.testing.assert_array_equal(read.predict(blobs()), model.labels_)
    assert read.score(blobs()) == -model.inertia_


def test_a_scorer_gives_cosine_distances() -> None:
    model = spherical().fit(blobs(500))
    scores = model.scorer(["label", "distance"])(Block(blobs(500), 0))
    np.testing.assert_array_equal(scores["label"], model.labels_)
    np.testing.assert_allclose(scores["distance"], model.transform(blobs(500)).min(axis=1))
    assert scores["distance"].sum() == pytest.approx(model.inertia_)


def test_to_sklearn_is_a_pipeline() -> None:
    frame = pd.DataFrame(np.array(blobs(500)), columns=list("abcde"))
    model = spherical().fit(frame)
    theirs = model.to_sklearn()
    assert isinstance(theirs, Pipeline)
    np.testing.assert_array_equal(theirs.predict(frame), model.labels_)
    np.testing.assert_allclose(theirs.transform(frame) ** 2 / 2, model.transform(frame), atol=1e-12)
    assert theirs.score(frame) == pytest.approx(-2 * model.inertia_)
    assert theirs[-1].inertia_ == 2 * model.inertia_
    with pytest.raises(ValueError, match="feature names should match"):
        theirs.predict(frame[list("edcba")])
