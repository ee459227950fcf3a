"""A fitted hierarchy as the `hdbscan` package's objects, for its plots and exports.

The package is an extra, imported once one of them is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.errors import ConfigError
from distclust.kernels.edges import SpanningTree
from distclust.kernels.hierarchy import CondensedTree
from distclust.kernels.linkage import linkage_matrix

__all__ = ["condensed_rows", "package"]

ROW = [
    ("parent", np.intp),
    ("child", np.intp),
    ("lambda_val", np.float64),
    ("child_size", np.intp),
]


def package(name: str) -> Any:
    """Import a module of the `hdbscan` package.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            "this needs the package 'hdbscan', which is not installed: "
            'pip install "distclust-engine[hdbscan]"'
        ) from error


def condensed_rows(tree: CondensedTree) -> npt.NDArray[Any]:
    """Return a condensed tree as the package's structured array.

    Rows of one parent are together, sparse to dense, its child clusters last. Cluster k
    is number n + k.
    """
    n_rows = len(tree.row_cluster)
    rows = np.empty(n_rows + tree.n_clusters - 1, dtype=ROW)
    rows["parent"] = n_rows + np.concatenate([tree.row_cluster, tree.parent[1:]])
    rows["child"] = np.arange(len(rows)) + (np.arange(len(rows)) >= n_rows)
    rows["lambda_val"] = np.concatenate([tree.row_density, tree.birth[1:]])
    rows["child_size"] = np.concatenate([np.ones(n_rows, dtype=np.intp), tree.size[1:]])
    return rows[np.lexsort((rows["child"], rows["lambda_val"], rows["parent"]))]


def edge_rows(edges: SpanningTree) -> npt.NDArray[np.float64]:
    """Return the edges of finite length as an array of shape (n - 1, 3)."""
    finite = np.isfinite(edges.weights)
    return np.column_stack([edges.u, edges.v, edges.weights])[finite]


def condensed_tree(tree: CondensedTree, labels: npt.NDArray[Any]) -> Any:
    """Return `hdbscan.plots.CondensedTree`."""
    return package("hdbscan.plots").CondensedTree(condensed_rows(tree), labels)


def single_linkage_tree(edges: SpanningTree) -> Any:
    """Return `hdbscan.plots.SingleLinkageTree`."""
    return package("hdbscan.plots").SingleLinkageTree(linkage_matrix(edges))


def minimum_spanning_tree(edges: SpanningTree, X: npt.NDArray[Any]) -> Any:
    """Return `hdbscan.plots.MinimumSpanningTree`."""
    return package("hdbscan.plots").MinimumSpanningTree(edge_rows(edges), X)
