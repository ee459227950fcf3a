"""The estimator: scikit-learn's semantics, messages and manners."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from distclust import ConfigError, KMeans
from distclust.backends.local import LocalBackend
from tests.cluster.helpers import blobs, digest, row_weights

SMALL = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
NEWER = {"backend", "metric", "n_partitions"}  # parameters scikit-learn does not have


def test_scikit_learn_accepts_the_estimator() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some checks have few distinct rows
        check_estimator(KMeans(), on_skip=None)


def test_parameters_and_defaults_are_those_of_scikit_learn() -> None:
    ours, theirs = KMeans().get_params(), SklearnKMeans().get_params()
    assert set(ours) - set(theirs) == NEWER
    assert set(theirs) <= set(ours)
    different = {name for name in theirs if ours[name] != theirs[name]}
    assert different == {"init"}


def test_by_hand() -> None:
    model = KMeans(2, init=SMALL[[0, 3]]).fit(SMALL)
    assert model.labels_.tolist() == [0, 0, 0, 1, 1, 1]
    assert model.cluster_centers_.tolist() == [[1.0, 2.0], [10.0, 2.0]]
    assert model.inertia_ == 16.0
    assert model.cluster_sizes_.tolist() == [3, 3]
    assert model.inertia_history_[0] == pytest.approx(16.0)
    assert (model.n_features_in_, model.labels_.dtype) == (2, np.int32)
    assert model.predict([[0, 0], [12, 3]]).tolist() == [0, 1]
    assert model.transform([[1.0, 5.0]]).tolist() == [[3.0, 90**0.5]]
    assert model.score([[1.0, 5.0], [13.0, 6.0]]) == -34.0
    assert model.get_feature_names_out().tolist() == ["kmeans0", "kmeans1"]


def test_weights_by_hand() -> None:
    model = KMeans(1, init=[[0.0]]).fit([[0.0], [4.0]], sample_weight=[3.0, 1.0])
    assert model.cluster_centers_.tolist() == [[1.0]]
    assert model.inertia_ == 12.0
    assert model.cluster_sizes_.tolist() == [2]


def test_inertia_history_is_that_of_each_iterations_start() -> None:
    X = blobs()
    model = KMeans(6, random_state=0).fit(X)
    assert len(model.inertia_history_) == model.n_iter_
    assert model.inertia_history_ == sorted(model.inertia_history_, reverse=True)
    first = KMeans(6, init=X[:6].copy(), max_iter=3, tol=0).fit(X)
    start = KMeans(6, init=X[:6].copy(), max_iter=1).fit(X)
    assert first.inertia_history_[1] == pytest.approx(start.inertia_, rel=1e-9)
    sq_dist = ((X[:, np.newaxis] - X[:6]) ** 2).sum(axis=2).min(axis=1)
    assert first.inertia_history_[0] == pytest.approx(sq_dist.sum(), rel=1e-9)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
@pytest.mark.parametrize("n", [60, 9000])
def test_each_seeding_gives_distinct_rows_of_the_data(init: str, n: int) -> None:
    X = blobs(n)
    model = KMeans(6, init=init, n_init=1, max_iter=1, random_state=0).fit(X)
    assert len(np.unique(model.cluster_centers_, axis=0)) == 6
    assert (model.cluster_sizes_ > 0).all()
    assert model.inertia_ < ((X - X.mean(axis=0)) ** 2).sum() / 2
    again = KMeans(6, init=init, n_init=1, max_iter=1, random_state=1).fit(X)
    assert not np.array_equal(model.cluster_centers_, again.cluster_centers_)


@pytest.mark.parametrize("init", ["sampled", "k-means||", "k-means++"])
def test_well_separated_groups_are_each_given_a_center(init: str) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 1000)
    X = groups[:, np.newaxis] * 100.0 + rng.normal(size=(12000, 2))
    for seed in range(5):
        model = KMeans(12, init=init, random_state=seed).fit(X)
        assert (model.cluster_sizes_ == 1000).all()
        assert (model.labels_.reshape(12, 1000) == model.labels_[::1000, np.newaxis]).all()


def test_seeding_is_no_worse_than_scikit_learns() -> None:
    X = blobs(9000)
    ours = np.median([KMeans(20, random_state=s).fit(X).inertia_ for s in range(5)])
    theirs = np.median([SklearnKMeans(20, random_state=s).fit(X).inertia_ for s in range(5)])
    assert ours < theirs * 1.02


# Initial centers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            np.zeros((3, 2)),
            "The shape of the initial centers (3, 2) does not match the number of clusters 2.",
        ),
        (
            np.zeros((2, 3)),
            "The shape of the initial centers (2, 3) does not match the number of features of "
            "the data 2.",
        ),
        (
            lambda X, k, random_state: np.zeros((k + 1, 2)),
            "The shape of the initial centers (3, 2) does not match the number of clusters 2.",
        ),
        (
            lambda X, k, random_state: np.zeros((k, 1)),
            "The shape of the initial centers (2, 1) does not match the number of features of "
            "the data 2.",
        ),
    ],
)
def test_initial_centers_of_a_wrong_shape(init: Any, message: str) -> None:
    for estimator in (KMeans(2, init=init, n_init=1), SklearnKMeans(2, init=init, n_init=1)):
        with pytest.raises(ValueError, match=re.escape(message)):
            estimator.fit(SMALL)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_initial_centers_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        KMeans(2, init=[[0.0, 0.0], [bad, 1.0]]).fit(SMALL)


def test_initial_centers_are_not_modified() -> None:
    init = SMALL[[0, 3]].copy()
    KMeans(2, init=init).fit(SMALL + 1)
    np.testing.assert_array_equal(init, SMALL[[0, 3]])


def test_a_callable_is_given_rows_clusters_and_a_random_state() -> None:
    asked = []

    def init(X: np.ndarray, k: int, random_state: np.random.RandomState) -> np.ndarray:
        asked.append(random_state.randint(10**6))
        return X[:k]

    X = blobs()
    model = KMeans(4, init=init, n_init=3, random_state=0).fit(X)
    assert len(set(asked)) == 3
    direct = KMeans(4, init=X[:4].copy()).fit(X)
    np.testing.assert_array_equal(model.labels_, direct.labels_)


def test_an_array_is_run_once_and_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="performing only one init in KMeans instead of n_in"):
        model = KMeans(2, init=SMALL[[0, 3]], n_init=5).fit(SMALL)
    assert model.inertia_ == 16.0


@pytest.mark.parametrize(
    ("init", "runs"),
    [("k-means||", 1), ("k-means++", 1), ("random", 10), ("callable", 10), ("array", 1)],
)
def test_auto_number_of_runs(init: Any, runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    if init == "array":
        init = SMALL[:2]
    elif init == "callable":
        init = lambda X, k, random_state: X[:k]  # noqa: E731 - one of several kinds
    KMeans(2, init=init, verbose=1, random_state=0).fit(SMALL)
    assert capsys.readouterr().out.count("Initialization complete") == runs


def test_the_best_of_several_runs_is_kept() -> None:
    X = blobs()
    best = KMeans(8, init="random", n_init=6, random_state=0, max_iter=4).fit(X)
    assert best.inertia_ == min(
        KMeans(8, init="random", n_init=n, random_state=0, max_iter=4).fit(X).inertia_
        for n in range(1, 7)
    )
    np.testing.assert_array_equal(best.predict(X), best.labels_)
    assert best.score(X) == -best.inertia_


# Degenerate data ----------------------------------------------------------------------------


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    """Center 2 has no row; of rows 0 … 10 (means 1 and 9.5), 4 is farthest from its center.

    The first step has clusters {0, 1, 2, 4} of center 0 and {9, 10} of center 10; row 4 at
    distance 4 moves to the empty cluster: means 1, 9.5 and 4.
    """
    X = np.array([[0.0], [1.0], [2.0], [4.0], [9.0], [10.0]])
    init = np.array([[0.0], [10.0], [100.0]])
    model = KMeans(3, init=init, max_iter=1).fit(X)
    assert model.cluster_centers_.ravel() == pytest.approx([1.0, 9.5, 4.0], rel=1e-14)
    assert model.labels_.tolist() == [0, 0, 0, 2, 1, 1]
    theirs = SklearnKMeans(3, init=init, n_init=1, max_iter=1).fit(X)
    np.testing.assert_allclose(model.cluster_centers_, theirs.cluster_centers_)


@pytest.mark.parametrize("n_partitions", [1, 2, 7])
def test_equally_far_rows_are_relocated_by_lowest_row(n_partitions: int) -> None:
    """Rows 1, 3 and 5 are all 5 away from the only used center; two clusters are empty."""
    X = np.array([[0.0], [5.0], [0.0], [-5.0], [0.0], [5.0], [0.0]])
    init = np.array([[0.0], [1000.0], [2000.0]])
    model = KMeans(3, init=init, max_iter=1, n_partitions=n_partitions).fit(X)
    assert model.cluster_centers_.ravel() == pytest.approx([1.0, 5.0, -5.0], rel=1e-14)


def test_relocation_moves_a_row_with_its_weight() -> None:
    X, init = np.array([[0.0], [1.0], [6.0]]), np.array([[0.0], [100.0]])
    model = KMeans(2, init=init, max_iter=1).fit(X, sample_weight=[1.0, 3.0, 2.0])
    assert model.cluster_centers_.ravel() == pytest.approx([0.75, 6.0], rel=1e-14)


def test_relocation_in_many_partitions_is_the_same() -> None:
    X = blobs()
    init = np.concatenate([X[:3], np.full((5, X.shape[1]), 1e6)])
    one = KMeans(8, init=init, n_partitions=1).fit(X)
    assert (one.cluster_sizes_ > 0).all()
    assert digest(KMeans(8, init=init, n_partitions=23).fit(X)) == digest(one)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_more_clusters_than_distinct_rows_is_a_warning(init: str) -> None:
    X = np.repeat(np.eye(3), 4, axis=0)
    with pytest.warns(ConvergenceWarning, match=re.escape("distinct clusters (3) found smaller")):
        model = KMeans(5, init=init, random_state=0).fit(X)
    assert model.inertia_ == pytest.approx(0, abs=1e-28)
    assert len(set(model.labels_)) == 3
    assert np.isfinite(model.cluster_centers_).all()


def test_all_rows_the_same() -> None:
    with pytest.warns(ConvergenceWarning, match=re.escape("clusters (1) found smaller than n_c")):
        model = KMeans(2, random_state=0).fit(np.full((20, 3), 0.1))
    assert model.cluster_centers_.tolist() == [[0.1] * 3] * 2
    assert set(model.labels_) == {0}


def test_more_clusters_than_rows_is_scikit_learns_error() -> None:
    message = "n_samples=3 should be >= n_clusters=5."
    for estimator in (KMeans(5), SklearnKMeans(5)):
        with pytest.raises(ValueError, match=re.escape(message)):
            estimator.fit(np.eye(3))


def test_as_many_clusters_as_rows() -> None:
    X = np.array([[3.0], [1.0], [2.0]])
    model = KMeans(3, random_state=0).fit(X)
    assert model.inertia_ == 0
    assert sorted(model.labels_) == [0, 1, 2]


def test_negative_zero_is_zero() -> None:
    X = np.array([[0.0], [-0.0], [1.0], [1.0]])
    model = KMeans(2, random_state=0).fit(X)
    flipped = KMeans(2, random_state=0).fit(np.where(X == 0, -X, X))
    np.testing.assert_array_equal(model.labels_, flipped.labels_)
    np.testing.assert_array_equal(model.cluster_centers_, flipped.cluster_centers_)


# Weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "array"])
def test_weights_are_the_same_as_repeated_rows(init: Any) -> None:
    X = blobs(600)
    times = np.random.default_rng(0).integers(0, 4, len(X))
    if init == "array":
        init = X[:5].copy()
    weighted = KMeans(5, init=init, random_state=0).fit(X, sample_weight=times)
    repeated = KMeans(5, init=init, random_state=0).fit(np.repeat(X, times, axis=0))
    np.testing.assert_array_equal(np.repeat(weighted.labels_, times), repeated.labels_)
    np.testing.assert_allclose(
        weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-12, atol=1e-12
    )
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-12)


def test_weights_of_one_are_no_weights() -> None:
    X = blobs()
    plain = KMeans(6, random_state=0).fit(X)
    weighted = KMeans(6, random_state=0).fit(X, sample_weight=np.ones(len(X)))
    np.testing.assert_array_equal(plain.labels_, weighted.labels_)
    np.testing.assert_allclose(plain.cluster_centers_, weighted.cluster_centers_, rtol=1e-12)
    assert plain.inertia_ == pytest.approx(weighted.inertia_, rel=1e-12)


def test_scaling_all_weights_by_a_power_of_two_changes_no_bit() -> None:
    X, weights = blobs(), row_weights()
    one = KMeans(6, random_state=0).fit(X, sample_weight=weights)
    other = KMeans(6, random_state=0).fit(X, sample_weight=weights * 2.0**40)
    np.testing.assert_array_equal(one.cluster_centers_, other.cluster_centers_)
    assert one.inertia_ * 2.0**40 == other.inertia_


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, 2.0], ValueError, "sample_weight.shape == (2,), expected (6,)"),
        ([1, 1, -1, 1, 1, 1], ValueError, "Negative values in data passed to `sample_weight`"),
        ([1, 1, np.nan, 1, 1, 1], ValueError, "contains NaN"),
        ([[1]] * 6, ValueError, "1D array"),
        ("w", ConfigError, "sample_weight='w' names a column, which only files have"),
        ([0] * 6, ValueError, "at least one non-zero"),
    ],
)
def test_wrong_weights(weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        KMeans(2).fit(SMALL, sample_weight=weights)


# Parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 0}, "The 'n_clusters' parameter of KMeans must be an int in the range"),
        ({"n_clusters": 2.5}, "The 'n_clusters' parameter of KMeans"),
        ({"init": "k-mean"}, "The 'init' parameter of KMeans must be a str among"),
        ({"n_init": 0}, "The 'n_init' parameter of KMeans"),
        ({"max_iter": 0}, "The 'max_iter' parameter of KMeans"),
        ({"tol": -1.0}, "The 'tol' parameter of KMeans"),
        ({"algorithm": "full"}, "The 'algorithm' parameter of KMeans"),
        ({"n_partitions": 0}, "The 'n_partitions' parameter of KMeans"),
        ({"backend": "rey"}, "no backend is called 'rey'; did you mean 'ray'?"),
        ({"backend": LocalBackend}, "is neither 'auto', one of ['dask', 'local', 'ray']"),
    ],
)
def test_wrong_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KMeans(**{"n_clusters": 2, **params}).fit(SMALL)


def test_elkan_of_one_cluster_warns_as_scikit_learn() -> None:
    with pytest.warns(RuntimeWarning, match="algorithm='elkan' doesn't make sense"):
        KMeans(1, algorithm="elkan").fit(SMALL)


def test_elkan_gives_the_same() -> None:
    X = blobs()
    one, other = (KMeans(6, random_state=0, algorithm=a).fit(X) for a in ("lloyd", "elkan"))
    assert digest(one) == digest(other)


@pytest.mark.parametrize("method", ["predict", "transform", "score", "to_sklearn", "save"])
def test_what_needs_a_fit_says_so(method: str) -> None:
    arguments: dict[str, list[Any]] = {"to_sklearn": [], "save": ["nowhere"]}
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(KMeans(), method)(*arguments.get(method, [SMALL]))


def test_random_state_instances_advance() -> None:
    state = np.random.RandomState(0)
    X = blobs()
    first, second = (KMeans(6, random_state=state, max_iter=1).fit(X) for _ in range(2))
    assert not np.array_equal(first.cluster_centers_, second.cluster_centers_)
    again = KMeans(6, random_state=np.random.RandomState(0), max_iter=1).fit(X)
    np.testing.assert_array_equal(first.cluster_centers_, again.cluster_centers_)


# Verbose ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [0.0, 1e-2], ids=["strict convergence", "tolerance"])
def test_verbose_output_is_scikit_learns(tol: float, capsys: pytest.CaptureFixture[str]) -> None:
    X = np.array(blobs(500))
    init = X[:4].copy()
    number = re.compile(r"-?\d+\.\d+(e-?\d+)?")
    outputs = []
    for kind in (KMeans, SklearnKMeans):
        model = kind(4, init=init, n_init=1, verbose=1, tol=tol)
        model.fit(X)
        outputs.append(capsys.readouterr().out)
    ours, theirs = (number.sub("#", out).splitlines() for out in outputs)
    assert ours == theirs
    numbers = [[float(n.group()) for n in number.finditer(out)] for out in outputs]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)


def test_silent_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    KMeans(2, random_state=0).fit(SMALL)
    assert capfd.readouterr() == ("", "")


# Copies -------------------------------------------------------------------------------------


def test_clone_is_unfitted_and_equal() -> None:
    model = KMeans(3, init=blobs()[:3], tol=0.1, n_partitions=5).fit(blobs())
    copy = clone(model)
    assert not hasattr(copy, "cluster_centers_")
    assert digest(copy.fit(blobs())) == digest(model)


@pytest.mark.parametrize("copy", [clone, lambda model: pickle.loads(pickle.dumps(model))])
def test_an_estimator_that_holds_a_backend_can_be_copied(copy: Callable[[Any], Any]) -> None:
    """Cross-validation clones estimators, whatever their parameters."""
    with LocalBackend(workers=1) as backend:
        copied = copy(KMeans(2, backend=backend, random_state=0))
        assert copied.fit(SMALL).inertia_ == 16.0


def test_pickle_keeps_a_fit() -> None:
    model = KMeans(6, random_state=0).fit(blobs())
    copy = pickle.loads(pickle.dumps(model))
    assert digest(copy) == digest(model)
    np.testing.assert_array_equal(copy.predict(blobs()), model.labels_)


def test_rows_are_not_modified() -> None:
    X = np.array(blobs(500))
    before = X.copy()
    KMeans(3, random_state=0, copy_x=False).fit(X, sample_weight=np.ones(500))
    np.testing.assert_array_equal(X, before)


# Sparse rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_csr_is_the_same_as_dense(dtype: str, weighted: bool) -> None:
    dense = np.where(np.abs(blobs(dtype=dtype)) > 6, blobs(dtype=dtype), 0).astype(dtype)
    weights = row_weights() if weighted else None
    params: dict[str, Any] = {"n_clusters": 5, "random_state": 0, "n_partitions": 4}
    one = KMeans(**params).fit(dense, sample_weight=weights)
    other = KMeans(**params).fit(sp.csr_matrix(dense), sample_weight=weights)
    assert digest(one) == digest(other)
    assert other.cluster_centers_.dtype == dtype
    for X in (sp.csr_array(dense), sp.csc_matrix(dense), sp.coo_matrix(dense)):
        np.testing.assert_array_equal(one.predict(dense), one.predict(X))
        np.testing.assert_array_equal(one.transform(dense), one.transform(X))
        assert one.score(dense, sample_weight=weights) == one.score(X, sample_weight=weights)


def test_csr_of_more_cells_than_are_made_dense_at_a_time() -> None:
    dense = np.random.default_rng(0).normal(size=(3000, 400)).astype(np.float32)
    init = dense[:3].copy()
    one = KMeans(3, init=init, max_iter=2, n_partitions=1).fit(dense)
    other = KMeans(3, init=init, max_iter=2, n_partitions=1).fit(sp.csr_matrix(dense))
    assert digest(one) == digest(other)
