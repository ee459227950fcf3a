"""What a cell can know of the whole tree, and joining components."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.forest import certify, join, merge_components
from distclust.kernels.partitioning import Boxes, box_gaps, cells_of, cut, nearest_gap


def test_a_chain_is_certified_from_its_inner_end() -> None:
    """Rows 0-1-2-3 with edges of 1, 2 and 3; from row 3 it is 2.5 to elsewhere."""
    edges = np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])
    certified, fragment, count = certify(*edges, np.array([9.0, 9.0, 9.0, 2.5]))
    assert certified.tolist() == [True, True, True]
    certified, fragment, count = certify(*edges, np.array([9.0, 1.5, 9.0, 2.5]))
    assert certified.tolist() == [True, True, False]
    assert fragment.tolist() == [0, 0, 0, 1]
    assert count == 2


def test_a_failed_edge_blocks_later_ones_of_its_component() -> None:
    """Edge 0-1 might be beaten by one from 0 or 1, so 1-2 is not the first out of {1}."""
    edges = np.array([0, 1]), np.array([1, 2]), np.array([5.0, 6.0])
    certified, fragment, count = certify(*edges, np.array([1.0, 4.0, 4.0]))
    assert certified.tolist() == [False, False]
    assert (fragment.tolist(), count) == ([0, 1, 2], 3)


def test_an_edge_as_long_as_the_way_out_is_not_certain() -> None:
    certified, _, _ = certify(np.array([0]), np.array([1]), np.array([2.0]), np.array([2.0, 2.0]))
    assert not certified.any()


def test_components_join_along_their_first_edges() -> None:
    a, b = np.array([0, 2, 1, 0, 3]), np.array([1, 3, 2, 4, 3])
    chosen, component, count = merge_components(a, b, 6)
    assert chosen.tolist() == [True, True, False, True, False]
    assert component.tolist() == [0, 0, 1, 1, 0, 2]
    assert count == 3
    chosen, component, count = join(a, b, 6)
    assert chosen.tolist() == [True, True, True, True, False]
    assert (component.tolist(), count) == ([0, 0, 0, 0, 0, 1], 2)


@pytest.mark.parametrize("n_cells", [1, 2, 3, 7, 16])
def test_cells_have_equal_shares(n_cells: int) -> None:
    X = np.random.default_rng(0).normal(size=(1600, 3))
    cuts = cut(X, n_cells)
    assert cuts.n_cells == n_cells
    counts = np.bincount(cells_of(X, cuts))
    assert len(counts) == n_cells
    assert counts.max() - counts.min() <= 4


def test_copies_meet_in_one_cell_but_lines_are_cut() -> None:
    """One feature is constant but for one row; rows tie in the other, ten by ten."""
    X = np.c_[np.zeros(101), np.repeat(np.arange(11.0), 10)[:101]]
    X[100] = [50.0, 3.0]
    cuts = cut(X, 4)
    cells = cells_of(X, cuts)
    assert len(np.unique(cells)) == cuts.n_cells == 4
    for row in np.unique(X, axis=0):
        assert len(np.unique(cells[(row == X).all(axis=1)])) == 1


def test_equal_rows_are_one_cell() -> None:
    assert cut(np.ones((100, 2)), 5).n_cells == 1


def test_gaps() -> None:
    boxes = Boxes(np.array([[0.0, 0.0], [5.0, 0.0]]), np.array([[1.0, 1.0], [6.0, 1.0]]))
    X = np.array([[0.5, 0.5], [2.0, 5.0]])
    np.testing.assert_array_equal(box_gaps(X, boxes, 0), [[0.0, 20.25], [17.0, 25.0]])
    np.testing.assert_array_equal(box_gaps(X, boxes, 1), [[0.0, 4.5], [5.0, 7.0]])
    np.testing.assert_array_equal(box_gaps(X, boxes, 2), [[0.0, 4.5], [4.0, 4.0]])
    np.testing.assert_array_equal(nearest_gap(X, boxes, 0, 0), [20.25, 25.0])
