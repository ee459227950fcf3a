"""The condensed tree, clusters chosen from it, and what follows for rows.

Every number is either worked out by hand or that of the `hdbscan` package's own
functions, given the same spanning tree: then there is no tie left to differ in.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage

from distclust.kernels.edges import SpanningTree
from distclust.kernels.flat import (
    flatten,
    outlier_scores,
    persistence,
    row_labels,
    row_probabilities,
)
from distclust.kernels.hierarchy import CondensedTree, condense
from distclust.kernels.linkage import cut_labels, linkage_matrix
from distclust.kernels.selection import Method, select, stabilities
from distclust.kernels.simplify import simplify
from tests.kernels.trees import caterpillar, chain, dense_tree, identical, small_sets

SIZES = [(5, 5), (2, 2), (15, 3), (50, 1), (1000, 4)]


def edges_of(*edges: tuple[int, int, float]) -> SpanningTree:
    u, v, weights = zip(*edges, strict=True)
    return SpanningTree(np.array(u), np.array(v), np.array(weights, dtype=float))


# Two triples, one with a straggler; row 0 is in the second.
SMALL = edges_of((3, 4, 1), (4, 5, 1), (0, 1, 2), (1, 2, 2), (5, 6, 4), (2, 3, 8), (0, 7, 10))


def test_two_clusters_by_hand():
    tree = condense(SMALL, 3)
    assert tree.parent.tolist() == [-1, 0, 0]
    assert tree.birth.tolist() == [0, 1 / 8, 1 / 8]
    assert tree.death.tolist() == [1 / 8, 1 / 2, 1]
    assert tree.size.tolist() == [8, 3, 4]
    assert tree.row_cluster.tolist() == [1, 1, 1, 2, 2, 2, 2, 0]
    assert tree.row_density.tolist() == [1 / 2, 1 / 2, 1 / 2, 1, 1, 1, 1 / 4, 1 / 10]
    stability = stabilities(tree)
    assert stability.tolist() == [1 / 10 + 7 / 8, 3 * 3 / 8, 3 * 7 / 8 + 1 / 8]


def test_a_flat_clustering_by_hand():
    tree = condense(SMALL, 3)
    chosen, mass = select(tree, stabilities(tree), 10.0)
    flat = flatten(tree, chosen)
    labels = row_labels(flat, tree.row_cluster, tree.row_density)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 1, -1]
    strength = row_probabilities(flat, labels, tree.row_density)
    assert strength.tolist() == [1, 1, 1, 1, 1, 1, 1 / 4, 0]
    scores = outlier_scores(flat, tree.row_cluster, tree.row_density)
    assert scores.tolist() == [0, 0, 0, 0, 0, 0, 3 / 4, 9 / 10]
    assert persistence(flat, mass, labels).tolist() == [3 / 8, (3 * 7 / 8 + 1 / 8) / 4]


def package_results(edges: SpanningTree, size: int, threshold: float, **options):
    """Labels, probabilities, persistence and condensed tree, by the package's functions."""
    from hdbscan.hdbscan_ import _tree_to_labels

    with np.errstate(all="ignore"):
        found = _tree_to_labels(
            None,
            linkage_matrix(edges),
            size,
            options["method"].value,
            options["allow_single_cluster"],
            cluster_selection_epsilon=options["epsilon"],
            cluster_selection_persistence=threshold,
            max_cluster_size=options["max_cluster_size"] or 0,
            cluster_selection_epsilon_max=options["epsilon_max"],
        )
    return found[:4]


def our_results(tree: CondensedTree, longest: float, **options):
    chosen, mass = select(tree, stabilities(tree), longest, **options)
    flat = flatten(tree, chosen, epsilon=options["epsilon"])
    labels = row_labels(flat, tree.row_cluster, tree.row_density)
    strength = row_probabilities(flat, labels, tree.row_density)
    scores = outlier_scores(flat, tree.row_cluster, tree.row_density)
    return labels, strength, persistence(flat, mass, labels), scores


@pytest.mark.parametrize("name", small_sets())
def test_every_selection_is_the_packages(name):
    from hdbscan._hdbscan_tree import outlier_scores as package_scores

    for size, min_samples in SIZES:
        edges = dense_tree(small_sets()[name], min_samples)
        tree = condense(edges, size)
        for method, single, epsilon, (epsilon_max, largest) in itertools.product(
            Method, (False, True), (0.0, 0.3, 1.0), ((np.inf, None), (2.0, None), (np.inf, 60))
        ):
            if single and largest:
                continue  # the package counts the root without the rows that fell out of it
            options = {
                "method": method,
                "allow_single_cluster": single,
                "epsilon": epsilon,
                "epsilon_max": epsilon_max,
                "max_cluster_size": largest,
            }
            expected = package_results(edges, size, 0.0, **options)
            found = our_results(tree, edges.weights[-1], **options)
            np.testing.assert_array_equal(found[0], expected[0], str(options))
            np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
            np.testing.assert_allclose(found[2], expected[2], rtol=1e-6)
            with np.errstate(all="ignore"):
                scores = package_scores(expected[3])
            np.testing.assert_allclose(found[3], scores, atol=1e-12)


@pytest.mark.parametrize("name", ["blobs", "moons", "iris", "wine", "uniform", "noise", "grid"])
@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.5, 2.0, 10.0])
def test_a_persistence_threshold_gives_the_packages_labels(name, threshold):
    for size, min_samples in SIZES[:3]:
        edges = dense_tree(small_sets()[name], min_samples)
        tree = condense(edges, size)
        if tree.n_clusters == 1:
            continue  # the package fails
        options = {
            "method": Method.LEAF,
            "allow_single_cluster": False,
            "epsilon": 0.0,
            "epsilon_max": np.inf,
            "max_cluster_size": None,
        }
        expected = package_results(edges, size, threshold, **options)
        found = our_results(simplify(tree, threshold), edges.weights[-1], **options)
        np.testing.assert_array_equal(found[0], expected[0])


def test_rows_of_an_undone_split_fall_out_together():
    # a = {0, 1} at 1 and b = {2, 3} at 2 meet at 3; c = {4, 5} at 1.5 joins at 9
    edges = edges_of((0, 1, 1), (4, 5, 1.5), (2, 3, 2), (1, 2, 3), (3, 4, 9))
    tree = simplify(condense(edges, 2), 0.2)
    assert tree.parent.tolist() == [-1, 0, 0]
    assert tree.row_cluster.tolist() == [1, 1, 1, 1, 2, 2]
    assert tree.row_density.tolist() == [1, 1, 0.5, 0.5, 1 / 1.5, 1 / 1.5]
    assert simplify(condense(edges, 2), 0.1).n_clusters == 5
    assert simplify(condense(edges, 2), 9.0).n_clusters == 1


def test_fewer_rows_than_a_cluster_are_the_root():
    tree = condense(SMALL, 100)
    assert tree.parent.tolist() == [-1]
    assert set(tree.row_density) == {1 / 10}


@pytest.mark.parametrize("shape", [chain, identical])
def test_a_million_rows_in_a_line_or_all_equal(shape):
    tree = condense(shape(1_000_000), 50)
    assert tree.n_clusters == 1
    assert tree.size.tolist() == [1_000_000]
    flat = flatten(tree, select(tree, stabilities(tree), 1.0, allow_single_cluster=True).chosen)
    assert (row_labels(flat, tree.row_cluster, tree.row_density) == 0).all()


def test_a_cluster_tree_half_a_million_deep():
    edges = caterpillar(500_000)
    tree = condense(edges, 2)
    assert tree.n_clusters == 999_999
    chosen, _ = select(tree, stabilities(tree), edges.weights[-1], epsilon=3.5)
    assert chosen.sum() == 499_998  # two joins are below the distance
    assert simplify(tree, 0.9).n_clusters == 999_999 - 2 * 8  # joins at 2 to 9 are undone
    assert simplify(tree, 1.0).n_clusters == 1


def test_rows_infinitely_far_fall_out_of_the_root_first():
    edges = edges_of((1, 2, 1), (1, 3, 2), (0, 1, np.inf), (1, 4, np.inf))
    for size in (2, 100):
        tree = condense(edges, size)
        assert tree.n_clusters == 1
        assert tree.row_density[[0, 4]].tolist() == [0, 0]
        assert (tree.row_density[1:4] > 0).all()
        flat = flatten(tree, np.array([True]))
        assert row_labels(flat, tree.row_cluster, tree.row_density)[[0, 4]].tolist() == [-1, -1]


def test_a_single_row_is_noise():
    edges = SpanningTree(np.empty(0, int), np.empty(0, int), np.empty(0))
    tree = condense(edges, 5)
    flat = flatten(tree, np.array([True]))
    assert row_labels(flat, tree.row_cluster, tree.row_density).tolist() == [-1]
    assert outlier_scores(flat, tree.row_cluster, tree.row_density).tolist() == [0]


@pytest.mark.parametrize("name", ["blobs", "grid", "duplicates", "all equal", "two rows"])
def test_the_linkage_matrix_and_its_cuts_are_scipys(name):
    edges = dense_tree(small_sets()[name], 3)
    linkage = linkage_matrix(edges)
    assert is_valid_linkage(linkage)
    for distance in np.unique(np.quantile(edges.weights, [0.1, 0.5, 0.9, 1])):
        components = fcluster(linkage, np.nextafter(distance, -1), "distance")
        labels = cut_labels(edges, distance, 1)
        assert labels[0] == 0
        assert len(set(zip(labels, components, strict=True))) == len(set(components))


def test_small_components_of_a_cut_are_noise():
    assert cut_labels(SMALL, 4.0, 3).tolist() == [0, 0, 0, 1, 1, 1, -1, -1]
    assert cut_labels(SMALL, 4.5, 4).tolist() == [-1, -1, -1, 0, 0, 0, 0, -1]
