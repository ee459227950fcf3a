"""SampleThenAssign: each way to label against scikit-learn's, weights, noise, models on disk."""

from __future__ import annotations

import json
import pickle
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import (
    DBSCAN,
    AgglomerativeClustering,
    BisectingKMeans,
    SpectralClustering,
)
from sklearn.cluster import HDBSCAN as SklearnHDBSCAN
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust import HDBSCAN, KMeans, MiniBatchKMeans, ModelError, SampleThenAssign
from distclust.cluster.sampling_error import adjusted_rand_index
from distclust.data.blocks import Block
from distclust.errors import ConfigError, DataError
from tests.cluster.helpers import blobs, row_weights

WARD = AgglomerativeClustering(6)


def fitted(clusterer: Any = WARD, X: Any = None, **params: Any) -> SampleThenAssign:
    given = {"sample_size": 300, "random_state": 0, **params}
    return SampleThenAssign(clusterer, **given).fit(blobs() if X is None else X)


def sampled(model: SampleThenAssign) -> np.ndarray:
    return blobs()[model.sample_indices_]


@parametrize_with_checks([SampleThenAssign(KMeans()), SampleThenAssign(DBSCAN())])
def test_scikit_learn_conventions(estimator, check):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        check(estimator)


# Each way to label --------------------------------------------------------------------------


def test_the_sample_is_clustered_as_the_clusterer_would() -> None:
    model = fitted()
    assert len(model.sample_indices_) == 300
    np.testing.assert_array_equal(model.sample_labels_, clone(WARD).fit_predict(sampled(model)))
    assert model.sample_weights_ is None
    assert model.labels_.dtype == np.int32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nearest_sample(dtype: str) -> None:
    X = blobs(dtype=dtype)
    model = fitted(X=X, assign="nearest-sample")
    rows = X[model.sample_indices_].astype(float)
    oracle = KNeighborsClassifier(1, algorithm="brute").fit(rows, model.sample_labels_)
    np.testing.assert_array_equal(model.labels_, oracle.predict(X.astype(float)))
    found = model.assignments(X)
    np.testing.assert_allclose(found.distance, oracle.kneighbors(X)[0][:, 0], atol=1e-6)
    assert found.confidence is None
    np.testing.assert_array_equal(model.labels_[model.sample_indices_], model.sample_labels_)


@pytest.mark.parametrize("k", [1, 4, 5, 500])
def test_knn(k: int) -> None:
    model = fitted(assign="knn", n_neighbors=k)
    near = min(k, 300)
    oracle = KNeighborsClassifier(near, algorithm="brute")
    oracle.fit(sampled(model), model.sample_labels_)
    np.testing.assert_array_equal(model.labels_, oracle.predict(blobs()))
    found = model.assignments(blobs())
    np.testing.assert_allclose(found.confidence, oracle.predict_proba(blobs()).max(axis=1))
    np.testing.assert_allclose(found.distance, oracle.kneighbors(blobs())[0][:, 0], atol=1e-6)


def test_nearest_center_is_the_mean_of_the_samples_clusters() -> None:
    model = fitted(assign="nearest-center")
    oracle = NearestCentroid().fit(sampled(model), model.sample_labels_)
    np.testing.assert_allclose(model.cluster_centers_, oracle.centroids_, rtol=1e-12)
    np.testing.assert_array_equal(model.labels_, oracle.predict(blobs()))
    found = model.assignments(blobs())
    own = np.linalg.norm(blobs() - model.cluster_centers_[model.labels_], axis=1)
    np.testing.assert_allclose(found.distance, own, rtol=1e-12)


def test_nearest_center_is_the_clusterers_own_where_it_has_some() -> None:
    model = fitted(SklearnKMeans(6, n_init=1, max_iter=1), assign="nearest-center")
    assert model.cluster_centers_ is model.clusterer_.cluster_centers_
    np.testing.assert_array_equal(model.labels_, model.clusterer_.predict(blobs()))


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(6),
        MiniBatchKMeans(6),
        HDBSCAN(min_cluster_size=10),
        SklearnKMeans(6, n_init=1),
        BisectingKMeans(6),
        GaussianMixture(6),
        make_pipeline(StandardScaler(), KMeans(6)),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_own_prediction(clusterer: Any) -> None:
    model = fitted(clusterer)
    np.testing.assert_array_equal(model.labels_, model.clusterer_.predict(blobs()))
    found = model.assignments(blobs())
    if hasattr(clusterer, "cluster_centers_"):
        own = np.linalg.norm(blobs() - model.cluster_centers_[model.labels_], axis=1)
        np.testing.assert_allclose(found.distance, own, rtol=1e-12)
    if isinstance(clusterer, GaussianMixture):
        sure = model.clusterer_.predict_proba(blobs()).max(axis=1)
        np.testing.assert_allclose(found.confidence, sure, rtol=1e-9)
    if isinstance(clusterer, HDBSCAN):
        sure = model.clusterer_.approximate_predict(blobs()).probabilities
        np.testing.assert_array_equal(found.confidence, sure)


class ByPlace(BaseEstimator):
    """Predicts what depends on where a row is in the matrix, as a matrix product may."""

    def fit(self, X: np.ndarray) -> ByPlace:
        self.labels_ = np.zeros(len(X), dtype=int)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        assert np.isfinite(X).all()
        return np.arange(len(X)) % 7 + len(X)


@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_rows_are_predicted_in_the_same_place_of_a_matrix_of_one_size(n_partitions: int) -> None:
    X = blobs(20_000)
    labels = fitted(ByPlace(), X, n_partitions=n_partitions).labels_
    np.testing.assert_array_equal(labels, np.arange(20_000) % 8192 % 7 + 8192)


def test_auto_is_predict_or_the_nearest_sample() -> None:
    assert fitted(KMeans(6), assign="auto").assignments(blobs()).distance is not None
    by_sample = fitted(assign="nearest-sample")
    np.testing.assert_array_equal(fitted(assign="auto").labels_, by_sample.labels_)


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "haversine"])
@pytest.mark.parametrize("given", [True, False])
def test_metrics_are_those_of_the_clusterer_or_given(metric: str, given: bool) -> None:
    angles = np.random.default_rng(1).uniform(-1.5, 1.5, (900, 2))
    own = "euclidean" if given else metric
    clusterer = DBSCAN(eps=0.05, min_samples=3, metric=own, algorithm="brute")
    model = fitted(clusterer, angles, assign="nearest-sample", metric=metric if given else None)
    rows = angles[model.sample_indices_]
    oracle = KNeighborsClassifier(1, metric=metric, algorithm="brute")
    oracle.fit(rows, model.sample_labels_)
    np.testing.assert_array_equal(model.labels_, oracle.predict(angles))
    distance = oracle.kneighbors(angles)[0][:, 0]
    np.testing.assert_allclose(model.assignments(angles).distance, distance, atol=1e-7)


def test_cosine_centers_are_directions() -> None:
    X = np.array(blobs()) * np.random.default_rng(0).uniform(0.1, 9, (3000, 1))
    model = fitted(KMeans(6, metric="cosine"), X)
    np.testing.assert_array_equal(model.labels_, model.clusterer_.predict(X))
    by_mean = fitted(
        AgglomerativeClustering(6, metric="cosine", linkage="average"), X, assign="nearest-center"
    )
    np.testing.assert_allclose(np.linalg.norm(by_mean.cluster_centers_, axis=1), 1)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = unit @ by_mean.cluster_centers_.T
    np.testing.assert_array_equal(by_mean.labels_, cosines.argmax(axis=1))
    np.testing.assert_allclose(by_mean.assignments(X).distance, 1 - cosines.max(axis=1), atol=1e-12)
    X[77] = 0
    with pytest.raises(DataError, match="row 77 of the input: the row is all zeros"):
        by_mean.predict(X)


# Noise --------------------------------------------------------------------------------------


def test_noise_of_the_sample_stays_noise() -> None:
    model = fitted(SklearnHDBSCAN(min_cluster_size=8, copy=True), assign="nearest-sample")
    assert (model.sample_labels_ == -1).any()
    oracle = KNeighborsClassifier(1).fit(sampled(model), model.sample_labels_)
    np.testing.assert_array_equal(model.labels_, oracle.predict(blobs()))
    assert (model.labels_ == -1).any()
    centers = fitted(SklearnHDBSCAN(min_cluster_size=8, copy=True), assign="nearest-center")
    assert centers.labels_.min() == 0
    assert len(centers.cluster_centers_) == model.sample_labels_.max() + 1


@pytest.mark.parametrize("assign", ["predict", "nearest-center", "nearest-sample", "knn"])
def test_rows_too_far_become_noise(assign: str) -> None:
    model = fitted(KMeans(6), assign=assign)
    distance = model.assignments(blobs()).distance
    limit = float(np.median(distance))
    near = fitted(KMeans(6), assign=assign, max_distance=limit)
    expected = np.where(distance > limit, -1, model.labels_)
    np.testing.assert_array_equal(near.labels_, expected)
    np.testing.assert_array_equal(near.assignments(blobs()).labels, expected)


def test_a_sample_of_noise_alone() -> None:
    for assign in ("nearest-center", "nearest-sample", "knn"):
        model = fitted(DBSCAN(eps=1e-9), assign=assign, estimate_error=True)
        assert (model.labels_ == -1).all()
        assert model.sampling_error_.inertia_ratio == 1.0
    assert model.cluster_centers_.shape == (0, 5)


# Weights ------------------------------------------------------------------------------------


class Weighed(BaseEstimator):
    """Remembers what it was given."""

    def fit(self, X: np.ndarray, y: Any = None, sample_weight: Any = None) -> Weighed:
        self.weights_, self.labels_ = sample_weight, np.arange(len(X)) % 2
        return self


def test_weights_reach_the_clusterer() -> None:
    weights = row_weights()
    model = SampleThenAssign(Weighed(), sample_size=300, random_state=0)
    model.fit(blobs(), sample_weight=weights)
    np.testing.assert_array_equal(model.clusterer_.weights_, weights[model.sample_indices_])
    np.testing.assert_array_equal(model.sample_weights_, weights[model.sample_indices_])
    model.set_params(sampling="coreset").fit(blobs())
    assert model.clusterer_.weights_.std() > 0
    np.testing.assert_array_equal(model.clusterer_.weights_, model.sample_weights_)
    model.set_params(sampling="stratified").fit(blobs())
    assert model.clusterer_.weights_ is None


def test_centers_are_weighted_means() -> None:
    weights = row_weights()
    model = SampleThenAssign(Weighed(), sample_size=300, random_state=0, assign="nearest-center")
    model.fit(blobs(), sample_weight=weights)
    ids = model.sample_indices_
    expected = [np.average(blobs()[i], 0, weights[i]) for i in (ids[::2], ids[1::2])]
    np.testing.assert_allclose(model.cluster_centers_, expected, rtol=1e-12)


def test_a_clusterer_that_takes_no_weights_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"AgglomerativeClustering\.fit takes no sample_weight"):
        fitted(sampling="coreset")


def test_coresets_of_heavy_tails_have_lower_inertia() -> None:
    X = np.random.default_rng(0).standard_t(1.5, (20_000, 2))
    inertia = {
        sampling: np.mean([
            -model.clusterer_.score(X)
            for seed in range(5)
            for model in [fitted(KMeans(12), X, sampling=sampling, random_state=seed)]
        ])
        for sampling in ("uniform", "coreset")
    }  # fmt: skip
    assert inertia["coreset"] < inertia["uniform"]


# Sampling error -----------------------------------------------------------------------------


@pytest.mark.parametrize("assign", ["predict", "nearest-center", "knn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sampling_error(assign: str, weighted: bool) -> None:
    weights = row_weights() if weighted else np.ones(3000)
    model = SampleThenAssign(
        KMeans(6), sample_size=300, assign=assign, estimate_error=True, random_state=0
    ).fit(blobs(), sample_weight=weights if weighted else None)
    sq_dist = ((blobs() - model.cluster_centers_[model.labels_]) ** 2).sum(axis=1) * weights
    error = model.sampling_error_
    assert error.inertia == pytest.approx(sq_dist.sum(), rel=1e-12)
    n_rows = np.count_nonzero(weights)
    expected = sq_dist[model.sample_indices_].sum() * n_rows / 300
    assert error.sample_inertia == pytest.approx(expected, rel=1e-12)
    assert error.inertia_ratio == pytest.approx(error.inertia / expected, rel=1e-12)
    assert 0.4 < error.ari < 1


def test_the_index_is_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    for k in (1, 2, 9):
        a, b = rng.integers(-1, k, 400), rng.integers(-1, 4, 400)
        b = np.where(rng.uniform(size=400) < 0.5, a, b)
        pairs = Counter(zip(a.tolist(), b.tolist(), strict=True))
        assert adjusted_rand_index(pairs) == pytest.approx(adjusted_rand_score(a, b), abs=1e-14)
    assert adjusted_rand_index(Counter({(0, 0): 9})) == 1.0
    assert adjusted_rand_index(Counter({(i, i): 1 for i in range(9)})) == 1.0


# Inputs -------------------------------------------------------------------------------------


def test_every_form_of_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.array(blobs()), columns=list("abcde"))
    pq.write_table(pa.table(frame), tmp_path / "rows.parquet", row_group_size=400)
    expected = fitted().labels_
    for form in (frame, pa.table(frame), csr_matrix(blobs()), str(tmp_path)):
        model = fitted(X=form)
        np.testing.assert_array_equal(model.labels_, expected)
        np.testing.assert_array_equal(model.predict(form), expected)
    assert fitted(X=frame).feature_names_in_.tolist() == list("abcde")


def test_a_dask_array_is_labelled_where_it_is(dask_cluster: str) -> None:
    import dask.array as da

    with distclust.connect("dask", address=dask_cluster) as backend:
        rows = da.from_array(np.array(blobs()), chunks=((700, 1, 1299, 1000), 5))
        model = fitted(X=rows, backend=backend)
        assert model.labels_.chunks == (rows.chunks[0],)
        for labels in (model.labels_, model.predict(rows)):
            np.testing.assert_array_equal(labels.compute(), fitted().labels_)
        with pytest.raises(ConfigError, match="predict labels collections"):
            model.assignments(rows)


def test_a_ray_dataset_is_labelled_where_it_is(ray_cluster: str) -> None:
    ray = pytest.importorskip("ray")
    frame = pd.DataFrame(np.array(blobs()), columns=list("abcde"))
    rows = ray.data.from_arrow([pa.table(frame[:1700]), pa.table(frame[1700:])])
    with distclust.connect("ray", address=ray_cluster, workers=1) as backend:
        model = fitted(X=rows, backend=backend)
        for dataset in (model.labels_, model.predict(rows)):
            labelled = pa.Table.from_pylist(dataset.take_all())
            np.testing.assert_array_equal(labelled["label"], fitted().labels_)
            np.testing.assert_array_equal(labelled["a"], blobs()[:, 0])


def test_sizes() -> None:
    assert len(fitted(sample_size=0.1).sample_indices_) == 300
    everything = fitted(sample_size=10_000)
    np.testing.assert_array_equal(everything.labels_, clone(WARD).fit_predict(blobs()))


def test_strata_of_rows_in_memory() -> None:
    kinds = np.array(["plain"] * 2999 + ["rare"])
    model = SampleThenAssign(WARD, sample_size=300, sampling="stratified", random_state=0)
    assert 2999 in model.fit(blobs(), strata=kinds).sample_indices_
    with pytest.raises(ConfigError, match="strata are given, but sampling='uniform'"):
        model.set_params(sampling="uniform").fit(blobs(), strata=kinds)


def test_random_states_that_are_open_follow_from_the_one_given() -> None:
    open_one = fitted(KMeans(6), random_state=5)
    assert isinstance(open_one.clusterer_.random_state, int)
    assert fitted(KMeans(6, random_state=9)).clusterer_.random_state == 9
    piped = fitted(make_pipeline(StandardScaler(), KMeans(6)))
    assert piped.clusterer_[-1].random_state is not None
    again = fitted(KMeans(6), random_state=5)
    np.testing.assert_array_equal(open_one.labels_, again.labels_)


def test_what_cannot_work_says_why() -> None:
    with pytest.raises(ConfigError, match="AgglomerativeClustering has no predict; set assign="):
        fitted(assign="predict")
    with pytest.raises(ConfigError, match=r"GaussianMixture\.predict tells no distances"):
        fitted(GaussianMixture(3), max_distance=1.0)
    with pytest.raises(ConfigError, match="'nearest-center' knows no manhattan distance"):
        fitted(assign="nearest-center", metric="manhattan")
    with pytest.raises(ConfigError, match=r"columns \['confidence'\] are unknown; known are"):
        fitted().scorer(["confidence"])
    with pytest.raises(ValueError, match="sample_size"):
        fitted(sample_size=0)
    with pytest.raises(ValueError, match="clusterer"):
        fitted("kmeans")


def test_a_scorer_gives_columns_of_a_block() -> None:
    model = fitted(assign="knn")
    found = model.assignments(blobs())
    scorer = pickle.loads(pickle.dumps(model.scorer(["confidence", "label", "distance"])))
    scores = scorer(Block(blobs()[100:200], 100))
    assert list(scores) == ["confidence", "label", "distance"]
    np.testing.assert_array_equal(scores["label"], found.labels[100:200])
    np.testing.assert_array_equal(scores["distance"], found.distance[100:200])
    empty = scorer(Block(blobs()[:0], 0))
    assert {name: (len(v), v.dtype.name) for name, v in empty.items()} == {
        "confidence": (0, "float64"), "label": (0, "int32"), "distance": (0, "float64"),
    }  # fmt: skip


# Models -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clusterer", "assign"),
    [
        (WARD, "nearest-sample"),
        (WARD, "knn"),
        (WARD, "nearest-center"),
        (KMeans(6), "predict"),
        (KMeans(6, metric="cosine"), "predict"),
        (MiniBatchKMeans(6), "knn"),
        (HDBSCAN(min_cluster_size=10), "predict"),
        (HDBSCAN(min_cluster_size=10), "nearest-sample"),
        (SpectralClustering(6), "auto"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_model_is_read_back(tmp_path: Path, clusterer: Any, assign: str) -> None:
    frame = pd.DataFrame(np.array(blobs()), columns=list("abcde"))
    model = fitted(clusterer, frame, assign=assign, max_distance=None, estimate_error=True)
    model.save(tmp_path)
    read = distclust.load(tmp_path)
    np.testing.assert_array_equal(read.predict(frame), model.labels_)
    np.testing.assert_array_equal(read.cluster_centers_, model.cluster_centers_)
    np.testing.assert_array_equal(read.sample_indices_, model.sample_indices_)
    assert read.sampling_error_ == model.sampling_error_
    assert read.feature_names_in_.tolist() == list("abcde")
    assert not list(tmp_path.glob("*.pkl"))
    if type(clusterer).__module__.startswith("distclust"):
        np.testing.assert_array_equal(read.fit(frame).labels_, model.labels_)
    else:
        with pytest.raises(ConfigError, match="loaded without"):
            read.fit(frame)


def test_another_librarys_prediction_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"GaussianMixture\.predict, which cannot be saved"):
        fitted(GaussianMixture(3)).save(tmp_path)
    assert not (tmp_path / "model.json").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("scalars", "assigner"), {"by": "density"}),
        (("scalars", "assigner"), {"by": "sample", "metric": "euclid", "votes": False}),
        (("scalars", "assigner"), {"by": "centers", "metric": "euclidean"}),
        (("scalars", "own"), {"kind": "os", "params": {}, "scalars": {}}),
        (("scalars", "labels_"), 1),
        (("scalars", "n_features_in_"), 4),
        (("params", "clusterer"), 1),
        (("params", "assign"), "os"),
    ],
)
def test_a_model_that_was_changed_is_refused(tmp_path: Path, key: Any, value: Any) -> None:
    fitted().save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    content[key[0]][key[1]] = value
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises((ModelError, ValueError)):
        distclust.load(tmp_path)


def test_pickling_keeps_the_labels() -> None:
    model = fitted(assign="knn")
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(blobs()), model.labels_)


class Hundreds(BaseEstimator):
    """Numbers its clusters 100 and 300, and leaves noise."""

    def fit(self, X: np.ndarray) -> Hundreds:
        self.labels_ = np.select([X[:, 0] < -5, X[:, 0] < 2], [-1, 100], 300)
        return self


def test_labels_are_the_clusterers_whatever_they_are() -> None:
    model = fitted(Hundreds(), assign="nearest-center", estimate_error=True)
    assert set(model.labels_.tolist()) == {100, 300}
    ids = model.sample_indices_
    expected = [blobs()[ids[model.sample_labels_ == label]].mean(axis=0) for label in (100, 300)]
    np.testing.assert_allclose(model.cluster_centers_, expected, rtol=1e-12)
    distances = np.linalg.norm(blobs()[:, np.newaxis] - model.cluster_centers_, axis=2)
    np.testing.assert_array_equal(model.labels_, np.array([100, 300])[distances.argmin(axis=1)])
    np.testing.assert_allclose(model.assignments(blobs()).distance, distances.min(axis=1))
    assert model.sampling_error_.inertia == pytest.approx((distances.min(axis=1) ** 2).sum())
