"""The HDBSCAN estimator: its methods, inputs, and promises beyond labels."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust import HDBSCAN, DataError, ModelError
from distclust.errors import ConfigError
from tests.cluster.hdbscan_data import data_sets

TWO = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9], [40, 40]])


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return data_sets()["varying, 2 features"]


@pytest.fixture(scope="module")
def fitted(X) -> HDBSCAN:
    return HDBSCAN(min_cluster_size=20, min_samples=8).fit(X)


@parametrize_with_checks([HDBSCAN()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_by_hand():
    model = HDBSCAN(min_cluster_size=3, min_samples=1).fit(TWO)
    assert model.labels_.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert model.probabilities_.tolist() == [1, 1, 1, 1, 1, 1, 0]
    far = 1 / np.hypot(31, 31)
    np.testing.assert_allclose(model.outlier_scores_, [0, 0, 0, 0, 0, 0, 1 - far])
    apart = 1 / np.hypot(8, 8)
    np.testing.assert_allclose(model.cluster_persistence_, [1 - apart] * 2)
    assert model.core_distances_.tolist()[:6] == [1] * 6
    assert [rows.tolist() for rows in model.exemplar_indices_] == [[0, 1, 2], [3, 4, 5]]
    assert model.dbscan_clustering(1.5, 3).tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert model.dbscan_clustering(12, 3).tolist() == [0, 0, 0, 0, 0, 0, -1]
    np.testing.assert_allclose(model.weighted_cluster_centroid(1), [26 / 3, 26 / 3])
    assert model.weighted_cluster_medoid(0).tolist() == [0, 0]


def test_all_rows_in_one_cluster_has_to_be_allowed():
    one = TWO[:3]
    assert HDBSCAN(min_cluster_size=3, min_samples=1).fit_predict(one).tolist() == [-1] * 3
    allowed = HDBSCAN(min_cluster_size=3, min_samples=1, allow_single_cluster=True)
    assert allowed.fit_predict(one).tolist() == [0, 0, 0]


def test_a_single_row_is_noise():
    assert HDBSCAN().fit_predict([[1.0, 2.0]]).tolist() == [-1]


def test_partitions_and_row_order_leave_the_clusters_alone(X, fitted):
    again = HDBSCAN(min_cluster_size=20, min_samples=8, n_partitions=7).fit(X)
    for name in ("labels_", "probabilities_", "outlier_scores_", "cluster_persistence_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))


def test_every_form_of_the_same_rows(X, fitted, tmp_path):
    frame = pd.DataFrame(X, columns=["x", "y"])
    pq.write_table(pa.table(frame), tmp_path / "rows.parquet", row_group_size=300)
    for form in (frame, pa.table(frame), csr_matrix(X), str(tmp_path / "rows.parquet")):
        model = HDBSCAN(min_cluster_size=20, min_samples=8, prediction_data=True).fit(form)
        np.testing.assert_array_equal(model.labels_, fitted.labels_)
        np.testing.assert_array_equal(model.predict(form), fitted.predict(X))
    assert model.feature_names_in_.tolist() == ["x", "y"]


@pytest.mark.parametrize("n_partitions", [pytest.param(1, marks=pytest.mark.thorough), 4])
def test_rows_that_are_not_finite_in_every_form(X, tmp_path, n_partitions):
    """Where they are noise; in files one row group has no other rows."""
    some = X[:1500].astype(np.float32)
    some[300:600, 0], some[[7, 700, 1499], 1] = np.nan, (np.inf, -np.inf, np.nan)
    finite = np.isfinite(some).all(axis=1)
    params = {"min_cluster_size": 20, "min_samples": 8, "prediction_data": True}
    expected = HDBSCAN(**params).fit(some)
    alone = HDBSCAN(**params).fit(some[finite])
    np.testing.assert_array_equal(expected.labels_[finite], alone.labels_)
    np.testing.assert_array_equal(expected.core_distances_[finite], alone.core_distances_)
    assert np.unique(expected.labels_[~finite]).tolist() == [-1]
    table = pa.table({"x": pa.array(some[:, 0], from_pandas=True), "y": some[:, 1]})
    assert table["x"].null_count == 300
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=300)
    for form in (table, csr_matrix(some), some.astype(np.float64), str(tmp_path / "rows.parquet")):
        model = HDBSCAN(**params, n_partitions=n_partitions).fit(form)
        for name in ("labels_", "probabilities_", "outlier_scores_", "core_distances_"):
            np.testing.assert_array_equal(getattr(model, name), getattr(expected, name))
        np.testing.assert_array_equal(model.predict(form), expected.predict(some))
    model.save(tmp_path / "model")
    loaded = distclust.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.labels_, expected.labels_)
    np.testing.assert_array_equal(loaded.predict(form), expected.predict(some))


def test_one_finite_row_among_others(tmp_path):
    X = np.full((9, 2), np.nan)
    X[4] = 1.0
    for n_partitions in (1, 3):
        model = HDBSCAN(n_partitions=n_partitions).fit(X)
        assert model.labels_.tolist() == [-1] * 9
        assert model.core_distances_.tolist() == [np.inf] * 4 + [0.0] + [np.inf] * 4


def test_a_number_too_large_for_its_type_is_no_infinity(tmp_path):
    pq.write_table(pa.table({"x": [1.0, np.inf, 1e300]}), tmp_path / "rows.parquet")
    rows = distclust.open_manifest(str(tmp_path / "rows.parquet"), dtype="float32")
    with pytest.raises(DataError, match=r"row 2: the value 1e\+300 is too large for float32"):
        HDBSCAN(min_cluster_size=2).fit(rows)


def test_files_are_predicted_only_if_their_rows_were_kept(X, tmp_path):
    pq.write_table(pa.table(pd.DataFrame(X, columns=["x", "y"])), tmp_path / "rows.parquet")
    model = HDBSCAN(min_cluster_size=20).fit(str(tmp_path / "rows.parquet"))
    with pytest.raises(ConfigError, match="prediction_data=True"):
        model.predict(str(tmp_path / "rows.parquet"))


def test_prediction_is_the_packages(X):
    import hdbscan

    new = np.random.default_rng(0).uniform(-12, 12, (4000, 2))
    sizes = {"min_cluster_size": 20, "min_samples": 8}
    theirs = hdbscan.HDBSCAN(**sizes, algorithm="prims_kdtree", prediction_data=True).fit(X)
    labels, _ = hdbscan.approximate_predict(theirs, new)
    model = HDBSCAN(**sizes).fit(X)
    found = model.approximate_predict(new)
    assert (found.labels == labels).mean() >= 0.999
    np.testing.assert_array_equal(model.predict(new), found.labels)
    # the package's function on our tree, which orders ties in another way
    ours = HDBSCAN(**sizes, prediction_data=True).fit(X)
    labels, strength = hdbscan.approximate_predict(ours, new)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.probabilities, strength, atol=1e-9)


def test_prediction_does_not_depend_on_what_else_is_predicted(X):
    """On a grid, where most distances are equal to others."""
    model = HDBSCAN(min_cluster_size=12, min_samples=4).fit(np.rint(X * 2))
    new = np.rint(np.random.default_rng(3).uniform(-25, 25, (700, 2)))
    together = model.approximate_predict(new)
    assert len(np.unique(together.labels)) > 2
    parts = [model.approximate_predict(part) for part in np.split(new, [1, 2, 3, 40, 500])]
    for name in together._fields:
        apart = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(apart, getattr(together, name))


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_prediction_of_very_large_and_small_numbers(X, fitted, factor):
    model = HDBSCAN(min_cluster_size=20, min_samples=8).fit(X * factor)
    np.testing.assert_array_equal(model.predict(X[:99] * factor), fitted.predict(X[:99]))


def test_new_rows_that_are_not_finite_are_noise(fitted):
    found = fitted.approximate_predict([[np.nan, 0], [np.inf, 0]])
    assert found.labels.tolist() == [-1, -1]
    assert found.probabilities.tolist() == [0, 0]


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "haversine"])
def test_fitted_rows_are_predicted_in_any_metric(X, metric):
    rows = X / 12 * [np.pi / 2, np.pi] if metric == "haversine" else X
    model = HDBSCAN(min_cluster_size=20, min_samples=5, metric=metric).fit(rows)
    clustered = model.labels_ >= 0
    assert (model.predict(rows) == model.labels_)[clustered].mean() > 0.95


def test_memberships_are_the_packages(X):
    import hdbscan

    new = np.random.default_rng(1).uniform(-12, 12, (300, 2))
    model = HDBSCAN(min_cluster_size=20, min_samples=8, prediction_data=True).fit(X)
    expected = hdbscan.membership_vector(model, new)
    found = model.membership_vectors(new)
    assert found.shape == (300, len(model.cluster_persistence_))
    close = np.isclose(found, expected, atol=1e-4).all(axis=1)
    assert close.mean() > 0.99  # the package rounds densities to float32
    labels, strongest = model.membership_vectors(new, top_k=2)
    np.testing.assert_array_equal(labels[:, 0], found.argmax(axis=1))
    np.testing.assert_array_equal(strongest, -np.sort(-found, axis=1)[:, :2])


def test_memberships_without_clusters_and_of_missing_rows(fitted):
    alone = HDBSCAN(min_cluster_size=7).fit(TWO)
    assert alone.membership_vectors(TWO).shape == (7, 0)
    assert fitted.membership_vectors([[np.nan, 0.0]]).max() == 0
    with pytest.raises(ConfigError, match="top_k=0"):
        fitted.membership_vectors(TWO, top_k=0)


def test_few_rows_are_predicted():
    model = HDBSCAN(min_cluster_size=3, min_samples=6).fit(TWO)
    assert model.predict(TWO[:1]).shape == (1,)


def test_reselecting_is_fitting_again(X, fitted):
    for changed in (
        {"min_cluster_size": 40},
        {"cluster_selection_method": "leaf"},
        {"cluster_selection_epsilon": 0.5},
        {"cluster_selection_persistence": 0.3},
        {"max_cluster_size": 150},
        {"allow_single_cluster": True, "cluster_selection_epsilon_max": 2.0},
    ):
        model = fitted.reselect(**changed)
        sizes = {"min_cluster_size": 20, "min_samples": 8} | changed
        expected = HDBSCAN(**sizes).fit(X)
        np.testing.assert_array_equal(model.labels_, expected.labels_)
        np.testing.assert_array_equal(model.predict(X[:50]), expected.predict(X[:50]))
    assert fitted.min_cluster_size == 20
    with pytest.raises(ConfigError, match="'min_samples' cannot be changed"):
        fitted.reselect(min_samples=3)


def test_tuning_tries_every_combination(fitted):
    found = fitted.tune(cluster_selection_method=["leaf", "eom"], min_cluster_size=(40, 10))
    assert [(row["cluster_selection_method"], row["min_cluster_size"]) for row in found] == [
        ("leaf", 40),
        ("leaf", 10),
        ("eom", 40),
        ("eom", 10),
    ]
    for row in found:
        names = ("cluster_selection_method", "min_cluster_size")
        model = fitted.reselect(**{name: row[name] for name in names})
        assert row["n_clusters"] == model.labels_.max() + 1
        assert row["noise_fraction"] == np.mean(model.labels_ == -1)
        assert row["relative_validity"] == model.relative_validity_
    with pytest.raises(ValueError, match="'min_cluster_size' parameter of HDBSCAN must be"):
        fitted.tune(min_cluster_size=[1])


def test_representatives_and_validity_are_the_packages(X, fitted):
    import hdbscan

    theirs = hdbscan.HDBSCAN(min_cluster_size=20, min_samples=8, gen_min_span_tree=True).fit(X)
    theirs.labels_, theirs.probabilities_ = fitted.labels_, fitted.probabilities_
    theirs._condensed_tree = fitted.condensed_tree_.to_numpy()
    theirs._min_spanning_tree = fitted.minimum_spanning_tree_.to_numpy()
    assert theirs.relative_validity_ == pytest.approx(fitted.relative_validity_, rel=1e-12)
    for label, exemplars in enumerate(theirs.exemplars_):
        assert set(map(tuple, exemplars)) == set(map(tuple, fitted.exemplars_[label]))
        for point in ("centroid", "medoid"):
            name = f"weighted_cluster_{point}"
            expected = getattr(theirs, name)(label)
            np.testing.assert_allclose(getattr(fitted, name)(label), expected)
    with pytest.raises(ValueError, match="cluster_id=-1 is not a cluster"):
        fitted.weighted_cluster_medoid(-1)


def test_the_packages_views(fitted, X):
    tree = fitted.condensed_tree_.to_pandas()
    assert len(tree) == len(X) + tree.parent.nunique() - 1
    assert sorted(tree.child[tree.child_size == 1]) == list(range(len(X)))
    assert fitted.single_linkage_tree_.to_pandas().shape == (len(X) - 1, 5)
    assert fitted.minimum_spanning_tree_.to_pandas().shape == (len(X) - 1, 3)


def test_a_missing_package_is_named(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdbscan.plots", None)
    with pytest.raises(ConfigError, match=r"distclust-engine\[hdbscan\]"):
        _ = fitted.single_linkage_tree_  # made anew each time it is asked for


def test_saving_and_loading(X, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    model = distclust.load(tmp_path / "model")
    np.testing.assert_array_equal(model.labels_, fitted.labels_)
    np.testing.assert_array_equal(model.outlier_scores_, fitted.outlier_scores_)
    np.testing.assert_array_equal(model.predict(X[:99]), fitted.predict(X[:99]))
    assert model.get_params() == fitted.get_params()
    assert model.cluster_selection_epsilon_max == np.inf
    strict = json.loads((tmp_path / "model" / "model.json").read_text(), parse_constant=str)
    assert "Infinity" not in json.dumps(strict)


@pytest.mark.parametrize("damage", ["cycle", "order", "range", "shape"])
def test_a_model_without_a_spanning_tree_is_refused(fitted, tmp_path, damage):
    u, v, weights = (array.copy() for array in fitted._edges)
    if damage == "cycle":
        u[5], v[5] = u[6], v[6]
    elif damage == "order":
        weights[3] = weights[-1]
    elif damage == "range":
        v[7] = len(u) + 9
    else:
        weights = weights[1:]
    broken = pickle.loads(pickle.dumps(fitted))
    broken._edges = type(fitted._edges)(u, v, weights)
    broken.save(tmp_path / "model")
    with pytest.raises(ModelError, match="not a spanning tree"):
        distclust.load(tmp_path / "model")


def test_pickling_leaves_behind_what_can_be_made_again(X, fitted):
    fitted.predict(X[:2])
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy._made == {}
    np.testing.assert_array_equal(copy.predict(X[:50]), fitted.predict(X[:50]))


def test_errors_say_what_is_wrong(X):
    with pytest.raises(DataError, match="no row of X is finite"):
        HDBSCAN().fit([[np.nan, 1.0], [np.inf, 2.0]])
    options = {"cluster_selection_epsilon": 2.0, "cluster_selection_epsilon_max": 1.0}
    with pytest.raises(ConfigError, match=r"cluster_selection_epsilon_max=1\.0 should be >= "):
        HDBSCAN(**options).fit(X)
    with pytest.raises(ConfigError, match="haversine"):
        HDBSCAN(metric="haversine").fit(np.ones((9, 3)))
    with pytest.raises(AttributeError, match="No prediction data"):
        _ = HDBSCAN().fit(X).prediction_data_
    with pytest.raises(ConfigError, match="probability"):
        HDBSCAN().fit(X).scorer(["label", "distance"])
