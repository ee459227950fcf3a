"""Each transformer against its scikit-learn namesake, and on every kind of input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from sklearn import datasets, impute, preprocessing
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust import ConfigError, DataError, ModelError
from distclust.data.transformed import TransformedRows
from distclust.data.values import Allowed
from distclust.preprocessing import Normalizer, RobustScaler, SimpleImputer, StandardScaler
from tests.cluster.helpers import row_weights
from tests.preprocessing.helpers import (
    NAMES,
    TRANSFORMERS,
    fitted_digest,
    rows,
    takes_missing,
    write_rows,
)

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
PAIRS: list[tuple[Any, Any]] = [
    (StandardScaler(), preprocessing.StandardScaler()),
    (StandardScaler(with_mean=False), preprocessing.StandardScaler(with_mean=False)),
    (RobustScaler(), preprocessing.RobustScaler()),
    (
        RobustScaler(quantile_range=(5.0, 90.0), unit_variance=True),
        preprocessing.RobustScaler(quantile_range=(5.0, 90.0), unit_variance=True),
    ),
    *[(Normalizer(norm), preprocessing.Normalizer(norm)) for norm in ("l1", "l2", "max")],
    *[
        (SimpleImputer(strategy=how), impute.SimpleImputer(strategy=how))
        for how in ("mean", "median", "most_frequent", "constant")
    ],
    (SimpleImputer(add_indicator=True), impute.SimpleImputer(add_indicator=True)),
]


@parametrize_with_checks(
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        RobustScaler(),
        RobustScaler(with_centering=False),
        Normalizer(),
        SimpleImputer(),
        SimpleImputer(strategy="median"),
        SimpleImputer(add_indicator=True),
    ]
)
@pytest.mark.filterwarnings(f"ignore::{SkipTestWarning.__module__}.SkipTestWarning")
def test_sklearn_conventions(estimator: Any, check: Any) -> None:
    check(estimator)


def with_holes(X: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(3).random(X.shape) < 0.1, np.nan, X)


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda model: str(model))
def test_the_same_as_scikit_learn(ours: Any, theirs: Any, name: str, offset: float) -> None:
    X = getattr(datasets, f"load_{name}")().data + offset
    X = X if isinstance(ours, Normalizer) else with_holes(X)
    ours, theirs = clone(ours).set_params(n_partitions=3).fit(X), clone(theirs).fit(X)
    for attribute in ("mean_", "var_", "scale_", "center_", "statistics_"):
        known = getattr(theirs, attribute, None)
        if known is not None:
            np.testing.assert_allclose(
                getattr(ours, attribute), known.astype(float), rtol=1e-9, atol=1e-15
            )
    made = ours.transform(X)
    np.testing.assert_allclose(ours.to_sklearn().transform(X), made, rtol=1e-12)
    if not offset:  # else the last digit of the mean, in which they differ, is seen
        np.testing.assert_allclose(made, theirs.transform(X), rtol=1e-9, atol=1e-12)
    if getattr(ours, "invertible", False) and not isinstance(ours, SimpleImputer):
        np.testing.assert_allclose(ours.inverse_transform(made), X, rtol=1e-12, atol=1e-12)


def test_far_from_zero_nothing_cancels() -> None:
    """The last digits of values near 1e8 vary; scikit-learn takes that for rounding errors."""
    X = (1e8 + 2.0**-20 * np.random.default_rng(0).integers(0, 1000, 100_000))[:, np.newaxis]
    exact = np.rint((X - 1e8) * 2**20).astype(int)[:, 0]
    variance = (exact * exact).mean() - exact.mean() ** 2
    model = StandardScaler().fit(X)
    np.testing.assert_allclose(model.scale_[0], variance**0.5 * 2**-20, rtol=1e-12)
    assert model.mean_[0] == 1e8 + exact.mean() * 2**-20


def test_a_constant_column_is_not_scaled() -> None:
    X = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    model = StandardScaler().fit(X)
    assert (model.var_[0], model.scale_[0], model.mean_[0]) == (0.0, 1.0, 0.1)
    assert RobustScaler().fit(X).scale_[0] == 1.0


def test_a_variance_beyond_doubles_is_refused() -> None:
    with pytest.raises(DataError, match="variance of feature 1 exceeds float64"):
        StandardScaler().fit([[0.0, 1e200], [1.0, -1e200]])


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
def test_quantiles_are_those_of_numpy(n: int) -> None:
    X = np.random.default_rng(n).normal(size=(n, 4)) * [1, 1e-300, 1e300, 1]
    X[:, 3] = np.rint(X[:, 3])
    model = RobustScaler(quantile_range=(20.0, 95.0), n_partitions=3).fit(X)
    np.testing.assert_allclose(model.center_, np.median(X, axis=0), rtol=1e-15)
    spread = np.subtract(*np.percentile(X, [95, 20], axis=0))
    known = spread > 1e-14
    np.testing.assert_allclose(model.scale_[known], spread[known], rtol=1e-12)


def test_quantiles_of_many_equal_values_are_found_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More values share all leading bits than are ever collected."""
    monkeypatch.setattr("distclust.preprocessing.statistics.FEW_VALUES", 20)
    X = np.repeat([1.0, np.nextafter(1.0, 2), 3.0], [300, 500, 200])[:, np.newaxis]
    np.random.default_rng(0).shuffle(X)
    model = SimpleImputer(strategy="median", n_partitions=4).fit(X)
    assert model.statistics_[0] == np.nextafter(1.0, 2)
    scale = RobustScaler(quantile_range=(10.0, 90.0)).fit(X).scale_[0]
    assert scale == 2.0


# The imputer ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
def test_columns_without_values_are_left_out_or_kept(strategy: str) -> None:
    X = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [np.nan] * 3, "c": [7.0, 7.0, np.nan]})
    with pytest.warns(UserWarning, match="Skipping features without any observed values.*'b'"):
        model = SimpleImputer(strategy=strategy).fit(X)
    assert model.get_feature_names_out().tolist() == ["a", "c"]
    assert model.transform(X).shape == (3, 2)
    with pytest.raises(ConfigError, match="left out"):
        model.inverse_transform([[1.0, 2.0]])
    kept = SimpleImputer(strategy=strategy, keep_empty_features=True).fit_transform(X)
    assert kept[:, 1].tolist() == [0.0, 0.0, 0.0]


def test_a_number_can_stand_for_what_is_missing() -> None:
    X = np.array([[1.0, -1.0], [-1.0, 4.0], [5.0, 4.0]])
    model = SimpleImputer(missing_values=-1).fit(X)
    assert model.transform(X).tolist() == [[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]]
    with pytest.raises(ValueError, match="NaN"):
        model.transform([[np.nan, 1.0]])


def test_the_most_frequent_of_very_many_values_is_refused() -> None:
    X = pd.DataFrame({"amount": np.arange(70_000) / 7})
    with pytest.raises(DataError, match="'amount' has more than 65536 different values"):
        SimpleImputer(strategy="most_frequent").fit(X)


def test_what_was_missing_is_indicated_as_by_scikit_learn() -> None:
    names = [*"abcd"]
    seen = pd.DataFrame(
        [[1, np.nan, 2, np.nan], [3, 5, 2, np.nan], [np.nan, 7, 2, np.nan]], columns=names
    )
    new = pd.DataFrame([[np.nan, 1, np.nan, np.nan], [4, 5, 6, 7]], columns=names)
    for params in ({}, {"keep_empty_features": True}, {"strategy": "constant", "fill_value": 9}):
        params = {"add_indicator": True, **params}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the empty column
            ours, theirs = SimpleImputer(**params).fit(seen), impute.SimpleImputer(**params)
            expected = theirs.fit(seen).transform(new)
            np.testing.assert_array_equal(ours.transform(new), expected)
            np.testing.assert_array_equal(ours.to_sklearn().transform(new), expected)
        assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
        assert ours.indicator_.features_.tolist() == theirs.indicator_.features_.tolist()
        raw = ours.inverse_transform(ours.transform(seen))
        np.testing.assert_array_equal(raw, seen)
        assert not ours.invertible  # for means of rows: a share of what is missing is no mark
    assert SimpleImputer().fit(seen[["a"]]).indicator_ is None


def test_a_number_that_stands_for_what_is_missing_is_indicated() -> None:
    X = np.array([[1.0, -1.0], [2.0, 4.0], [5.0, 4.0]], dtype=np.float32)
    model = SimpleImputer(missing_values=-1, add_indicator=True).fit(X)
    assert model.transform(X).tolist() == [[1.0, 4.0, 1.0], [2.0, 4.0, 0.0], [5.0, 4.0, 0.0]]
    assert model.transform(X).dtype == np.float32
    np.testing.assert_array_equal(model.inverse_transform(model.transform(X)), X)


# The standard scaler's weights, and its rows in several calls --------------------------------


def learned(model: StandardScaler) -> list[np.ndarray]:
    return [np.asarray(getattr(model, name), dtype=float) for name in model._fitted_names]


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("name", SETS)
def test_weights_are_as_in_scikit_learn(name: str, offset: float) -> None:
    X = with_holes(getattr(datasets, f"load_{name}")().data + offset)
    weights = row_weights(len(X)) + 0.01
    ours = StandardScaler(n_partitions=3).fit(X, sample_weight=weights)
    theirs = preprocessing.StandardScaler().fit(X, sample_weight=weights)
    for attribute in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(
            getattr(ours, attribute), getattr(theirs, attribute), rtol=1e-9, atol=1e-15
        )


def test_a_row_that_weighs_three_is_three_rows() -> None:
    X = np.array(rows())
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = StandardScaler(n_partitions=2).fit(X, sample_weight=counts)
    repeated = StandardScaler().fit(np.repeat(X, counts, axis=0))
    for one, other in zip(learned(weighted), learned(repeated), strict=True):
        np.testing.assert_array_equal(one, other)
    tiny = StandardScaler().fit(X, sample_weight=counts * 2.0**-1070)
    np.testing.assert_array_equal(tiny.var_, weighted.var_)


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_may_come_in_several_calls(weighted: bool, tmp_path: Path) -> None:
    X = np.array(rows())
    weights = row_weights(len(X)) if weighted else None
    whole, parts = StandardScaler().fit(X, sample_weight=weights), StandardScaler()
    for part in np.array_split(np.arange(len(X)), [7, 1500]):
        parts.partial_fit(X[part], sample_weight=None if weights is None else weights[part])
    assert fitted_digest(parts) == fitted_digest(whole)
    assert type(parts.n_samples_seen_) is type(whole.n_samples_seen_)
    first = StandardScaler().fit(
        X[:1500], sample_weight=None if weights is None else weights[:1500]
    )
    first.save(tmp_path)  # which rounds what was learned
    again = distclust.load(tmp_path)
    again.partial_fit(X[1500:], sample_weight=None if weights is None else weights[1500:])
    for one, other in zip(learned(again), learned(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    assert fitted_digest(parts.fit(X[:9])) == fitted_digest(StandardScaler().fit(X[:9]))


def test_weights_of_files_are_a_column(tmp_path: Path) -> None:
    X, weights = np.array(rows(missing=False)), row_weights(3000)
    table = pa.table({**dict(zip(NAMES, X.T, strict=True)), "w": weights})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = StandardScaler().fit(tmp_path / "rows.parquet", sample_weight="w")
    assert fitted_digest(found) == fitted_digest(StandardScaler().fit(X, sample_weight=weights))
    assert found.n_features_in_ == 5


def test_weights_that_are_all_zero_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0], "w": [0.0, 0.0]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="every sample weight is 0"):
        StandardScaler().fit(tmp_path / "rows.parquet", sample_weight="w")
    with pytest.raises(ValueError, match="non-zero"):
        StandardScaler().fit(rows(), sample_weight=np.zeros(3000))
    with pytest.raises(ValueError, match="Negative"):
        StandardScaler().fit(rows(), sample_weight=np.full(3000, -1.0))


# Inputs -----------------------------------------------------------------------------------


def with_names(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=list(NAMES))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.thorough
def test_frames_tables_and_files_are_as_arrays(name: str, dtype: str, tmp_path: Path) -> None:
    X = rows(dtype, missing=takes_missing(name))
    model = clone(TRANSFORMERS[name]).fit(X)
    digest, expected = fitted_digest(model), model.transform(X)
    assert expected.dtype == X.dtype
    table = pa.Table.from_pandas(with_names(X))  # NaN becomes null
    for given in (with_names(X), table):
        again = clone(model).fit(given)
        assert fitted_digest(again) == digest
        np.testing.assert_array_equal(again.transform(given), expected)
    path = write_rows(tmp_path / "rows", rows("float64", missing=takes_missing(name)))
    if dtype == "float64":
        again = clone(model).fit(path)
        assert fitted_digest(again) == digest
        made = again.transform(path)
        assert isinstance(made, TransformedRows)
        assert made.n_features == expected.shape[1]
        assert list(made.feature_names) == again.get_feature_names_out().tolist()
        lenient = made.allowing(Allowed.MISSING)
        loaded = [lenient.load(*args) for args in lenient.plan(2)]
        found = {b.row_start: b.X for part in loaded for b in part.blocks}
        np.testing.assert_array_equal(np.concatenate([found[i] for i in sorted(found)]), expected)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_dask_arrays_stay_lazy(name: str) -> None:
    X = rows(missing=takes_missing(name))
    model = clone(TRANSFORMERS[name]).fit(X)
    made = model.transform(da.from_array(X, chunks=(700, 2)))
    assert made.chunks == ((700, 700, 700, 700, 200), (len(model.get_feature_names_out()),))
    np.testing.assert_array_equal(made.compute(scheduler="sync"), model.transform(X))


@pytest.mark.parametrize(
    "model",
    [StandardScaler(with_mean=False), RobustScaler(with_centering=False), Normalizer()],
    ids=str,
)
def test_sparse_rows_stay_sparse(model: Any) -> None:
    S = sp.random(5000, 40, 0.3, format="csr", random_state=1)
    model = clone(model).set_params(n_partitions=3).fit(S)
    made = model.transform(S)
    assert sp.issparse(made)
    dense = clone(model).fit(S.toarray())
    assert fitted_digest(dense) == fitted_digest(model)
    np.testing.assert_array_equal(made.toarray(), dense.transform(S.toarray()))


def test_what_is_wrong_is_located(tmp_path: Path) -> None:
    X = np.array(rows(missing=False))
    X[1234, 1] = np.inf
    path = write_rows(tmp_path / "rows", X)
    with pytest.raises(
        DataError, match=r"part-1\.parquet: row group 1, column 'b', row 234: .*inf"
    ):
        StandardScaler().fit(path)
    made = Normalizer().fit(rows(missing=False)).transform(write_rows(tmp_path / "b", rows()))
    with pytest.raises(DataError, match=r"part-0.*null; drop or fill such rows"):
        made.load(*made.plan(1)[0])
    model = StandardScaler().fit(tmp_path / "b")  # which lets missing values through
    with pytest.raises(DataError, match=r"part-0.*feature '.': the value is nan after prep"):
        distclust.KMeans(2).fit(model.transform(tmp_path / "b"))


def test_saved_and_loaded(tmp_path: Path) -> None:
    for name, transformer in TRANSFORMERS.items():
        X = with_names(rows(missing=takes_missing(name)))
        model = clone(transformer).fit(X)
        distclust.save(model, tmp_path / name)
        again = distclust.load(tmp_path / name)
        assert type(again) is type(model)
        assert repr(again.get_params()) == repr(model.get_params())
        np.testing.assert_array_equal(again.transform(X), model.transform(X))
        assert again.get_feature_names_out().tolist() == model.get_feature_names_out().tolist()


def test_models_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no estimator of distclust"):
        distclust.save(preprocessing.StandardScaler(), tmp_path / "model")
    with pytest.raises(NotFittedError):
        distclust.save(StandardScaler(), tmp_path / "model")
