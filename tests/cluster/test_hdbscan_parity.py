"""HDBSCAN against the exact algorithms of the `hdbscan` package.

The weights of a minimum spanning tree and its components at every distance are unique,
so those have to be the package's. Which of several edges of equal weight comes first is
not, and mutual reachability distances tie all the time. So the package's functions have
to make our labels of our tree, and ours its labels of its tree: where labels differ from
end to end, it is then by the order of equal edges and nothing else.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster
from sklearn.metrics import adjusted_rand_score

from distclust import HDBSCAN
from distclust.cluster.flat_clustering import Selection, cluster
from distclust.kernels.edges import SpanningTree
from tests.cluster.hdbscan_data import data_sets

METRICS = ["manhattan", "chebyshev", "cosine", "haversine"]
# Small or full of equal distances: ties move more than a few labels.
DECIDED_BY_TIES = {"wine", "digits", "uniform", "grid", "integers", "line", "varying, 1 features"}


def package_fit(X: np.ndarray, **options):
    import hdbscan

    with np.errstate(all="ignore"):
        return hdbscan.HDBSCAN(**options, gen_min_span_tree=True).fit(X)


def assert_same_tree(ours: HDBSCAN, theirs, *, rtol: float) -> None:
    weights = ours.minimum_spanning_tree_.to_numpy()[:, 2]
    expected = np.sort(theirs.minimum_spanning_tree_.to_numpy()[:, 2])
    np.testing.assert_allclose(weights, expected, rtol=rtol, atol=rtol)
    gaps = np.flatnonzero(np.diff(expected) > 1e-7 * expected[1:])
    for cut in gaps[:: max(1, len(gaps) // 12)]:
        distance = expected[cut : cut + 2].mean()
        components = fcluster(theirs.single_linkage_tree_.to_numpy(), distance, "distance")
        labels = ours.dbscan_clustering(distance, min_cluster_size=1)
        pairs = len(set(zip(labels, components, strict=True)))
        assert pairs == len(set(components)) == labels.max() + 1


def assert_packages_answer(ours: HDBSCAN) -> None:
    from hdbscan._hdbscan_tree import outlier_scores
    from hdbscan.hdbscan_ import _tree_to_labels

    with np.errstate(all="ignore"):
        labels, strength, persistence, tree, _ = _tree_to_labels(
            None, ours.single_linkage_tree_.to_numpy(), ours.min_cluster_size
        )
        scores = outlier_scores(tree)
    np.testing.assert_array_equal(ours.labels_, labels)
    np.testing.assert_allclose(ours.probabilities_, strength, atol=1e-12)
    np.testing.assert_allclose(ours.cluster_persistence_, persistence, rtol=1e-6)
    known = np.isfinite(scores)  # the package says NaN beside infinitely dense rows
    np.testing.assert_allclose(ours.outlier_scores_[known], scores[known], atol=1e-12)


def assert_ours_of_its_tree(ours: HDBSCAN, theirs) -> None:
    u, v, weights = theirs.minimum_spanning_tree_.to_numpy().T
    a, b = u.astype(np.int64), v.astype(np.int64)
    edges = SpanningTree(np.minimum(a, b), np.maximum(a, b), weights)
    found = cluster(edges, Selection.of(ours))
    np.testing.assert_array_equal(found.labels, theirs.labels_)
    np.testing.assert_allclose(found.probabilities, theirs.probabilities_, atol=1e-12)


@pytest.mark.parametrize("name", data_sets())
def test_parity(name):
    X = data_sets()[name]
    sizes = {"min_cluster_size": 15, "min_samples": 5}
    ours = HDBSCAN(**sizes).fit(X)
    theirs = package_fit(X, **sizes, algorithm="prims_kdtree")
    assert_same_tree(ours, theirs, rtol=1e-12)
    assert_packages_answer(ours)
    assert_ours_of_its_tree(ours, theirs)
    if name not in DECIDED_BY_TIES:
        assert adjusted_rand_score(theirs.labels_, ours.labels_) >= 0.99


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["blobs", "varying, 2 features"])
def test_parity_in_other_metrics(name, metric):
    X = data_sets()[name]
    if metric == "haversine":
        X = X / 12 * [np.pi / 2, np.pi]
    sizes = {"min_cluster_size": 15, "min_samples": 5, "metric": metric}
    ours = HDBSCAN(**sizes).fit(X)
    theirs = package_fit(X, **sizes, algorithm="generic")
    assert_same_tree(ours, theirs, rtol=1e-9 if metric == "cosine" else 1e-12)
    assert_packages_answer(ours)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_parity_with_alpha(alpha):
    X = data_sets()["varying, 3 features"]
    options = {"min_cluster_size": 15, "min_samples": 5, "alpha": alpha}
    ours = HDBSCAN(**options).fit(X)
    assert_same_tree(ours, package_fit(X, **options, algorithm="prims_kdtree"), rtol=1e-12)


def test_more_neighbors_than_rows_and_than_a_cluster():
    X = data_sets()["blobs"][:60]
    for min_samples in (30, 59, 1000):
        ours = HDBSCAN(min_cluster_size=4, min_samples=min_samples).fit(X)
        theirs = package_fit(X, min_cluster_size=4, min_samples=min_samples, algorithm="generic")
        assert_same_tree(ours, theirs, rtol=1e-6)
        assert ours.min_samples_ == min(min_samples, 59)


def test_scikit_learns_hdbscan_counts_the_row_itself():
    from sklearn.cluster import HDBSCAN as SklearnHDBSCAN

    X = data_sets()["varying, 5 features"]
    ours = HDBSCAN(min_cluster_size=20, min_samples=7).fit(X)
    theirs = SklearnHDBSCAN(min_cluster_size=20, min_samples=8, copy=True).fit(X)
    assert adjusted_rand_score(theirs.labels_, ours.labels_) >= 0.99


def test_rows_that_are_not_finite_are_the_packages_noise():
    X = data_sets()["varying, 2 features"].copy()
    X[[0, 9, 300], [0, 1, 1]] = np.nan, np.inf, -np.inf
    ours = HDBSCAN(min_cluster_size=15, min_samples=5).fit(X)
    theirs = package_fit(X, min_cluster_size=15, min_samples=5, algorithm="prims_kdtree")
    assert ours.labels_[[0, 9, 300]].tolist() == [-1, -1, -1]
    assert ours.probabilities_[[0, 9, 300]].tolist() == [0, 0, 0]
    assert ours.outlier_scores_[[0, 9, 300]].tolist() == [1, 1, 1]
    assert adjusted_rand_score(theirs.labels_, ours.labels_) >= 0.99
    assert (
        ours.single_linkage_tree_.to_numpy().shape == theirs.single_linkage_tree_.to_numpy().shape
    )
    assert ours.minimum_spanning_tree_.to_numpy().shape == (len(X) - 4, 3)
