"""Models on disk: saved, read back, refused when changed, and never a pickle."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import distclust
from distclust import KMeans, ModelError
from distclust.backends.local import LocalBackend
from distclust.model import SCHEMA_VERSION, StoredModel, read_model, write_model
from tests.cluster.helpers import blobs, row_weights


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    KMeans(4, random_state=0).fit(blobs(500)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_predicts_the_same_when_read_back(dtype: str, tmp_path: Path) -> None:
    X, weights = blobs(500, dtype=dtype), row_weights(500)
    model = KMeans(4, random_state=7, tol=1e-3, n_partitions=3).fit(X, sample_weight=weights)
    model.save(tmp_path / "deep" / "model")
    read = distclust.load(tmp_path / "deep" / "model")
    assert type(read) is KMeans
    assert read.get_params() == model.get_params()
    np.testing.assert_array_equal(read.cluster_centers_, model.cluster_centers_)
    assert read.cluster_centers_.dtype == dtype
    np.testing.assert_array_equal(read.cluster_sizes_, model.cluster_sizes_)
    for name in ("inertia_", "n_iter_", "inertia_history_", "n_features_in_"):
        assert getattr(read, name) == getattr(model, name)
    assert not hasattr(read, "labels_")
    np.testing.assert_array_equal(read.predict(X), model.labels_)
    np.testing.assert_array_equal(read.transform(X), model.transform(X))
    assert read.get_feature_names_out().tolist() == model.get_feature_names_out().tolist()
    assert read.score(X, sample_weight=weights) == -model.inertia_
    read.save(tmp_path / "again")
    first, second = (sorted(p.iterdir()) for p in (tmp_path / "deep" / "model", tmp_path / "again"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_model_is_json_and_raw_arrays(saved: Path) -> None:
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["cluster_centers_.npy", "cluster_sizes_.npy", "model.json"]
    description = json.loads((saved / "model.json").read_text())
    assert description["schema_version"] == SCHEMA_VERSION
    assert description["kind"] == "KMeans"
    assert set(description["versions"]) >= {"python", "numpy"}
    for name, digest in description["arrays"].items():
        data = (saved / f"{name}.npy").read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest


@pytest.mark.parametrize(
    ("params", "read_back"),
    [
        ({"init": blobs(500)[:4]}, {"init": blobs(500)[:4]}),
        ({"init": lambda X, k, random_state: X[:k], "n_init": 1}, {"init": "k-means||"}),
        ({"random_state": np.random.RandomState(0)}, {"random_state": None}),
        ({"random_state": np.int64(3), "tol": np.float32(0.5)}, {"random_state": 3, "tol": 0.5}),
    ],
)
def test_parameters_that_json_cannot_hold(
    params: dict[str, Any], read_back: dict[str, Any], tmp_path: Path
) -> None:
    model = KMeans(4, **params).fit(blobs(500))
    model.save(tmp_path)
    read = distclust.load(tmp_path)
    for name, value in read_back.items():
        np.testing.assert_array_equal(getattr(read, name), value)
    np.testing.assert_array_equal(read.predict(blobs(500)), model.labels_)


def test_a_backend_is_not_saved(tmp_path: Path) -> None:
    with LocalBackend(workers=1) as backend:
        KMeans(2, backend=backend).fit(blobs(500)).save(tmp_path)
    assert distclust.load(tmp_path).backend == "auto"


def test_names_of_features_are_saved(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.array(blobs(500)), columns=list("vwxyz"))
    KMeans(2, random_state=0).fit(frame).save(tmp_path)
    read = distclust.load(tmp_path)
    assert read.feature_names_in_.tolist() == list("vwxyz")
    read.predict(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        read.predict(frame[list("zyxwv")])


def test_saving_replaces_an_older_model(saved: Path) -> None:
    newer = KMeans(2, random_state=1).fit(blobs(500))
    newer.save(saved)
    np.testing.assert_array_equal(distclust.load(saved).cluster_centers_, newer.cluster_centers_)
    assert not list(saved.glob("*.tmp"))


# What is refused ------------------------------------------------------------------------------


def edit(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what model.json says."""
    file = directory / "model.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json does not exist; save a model with model\."):
        distclust.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["cluster_centers_", "cluster_sizes_"])
def test_an_array_that_was_changed(saved: Path, name: str) -> None:
    file = saved / f"{name}.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=f"{name}.npy is missing or is not the file that was save"):
        distclust.load(saved)
    file.unlink()
    with pytest.raises(ModelError, match=f"{name}.npy is missing"):
        distclust.load(saved)


class Trap:
    """Shows that a pickle was executed."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


def test_a_pickle_is_not_executed(saved: Path) -> None:
    """Not even one whose checksum model.json agrees with."""
    file = saved / "cluster_centers_.npy"
    for content in ("array of objects", "pickle"):
        if content == "pickle":
            file.write_bytes(pickle.dumps(Trap()))
        else:
            np.save(file, np.array([Trap()], dtype=object), allow_pickle=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        edit(saved, lambda d, sha=digest: d["arrays"].update(cluster_centers_=sha))
        with pytest.raises(ModelError, match=r"cluster_centers_\.npy"):
            distclust.load(saved)
        assert not Trap.sprung


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=99), "schema version 99, this distclust reads 1"),
        (lambda d: d.update(schema_version="1"), "schema version 1"),
        (lambda d: d.pop("schema_version"), "is not a model description"),
        (lambda d: d.pop("scalars"), "lacks"),
        (lambda d: d.update(kind="Spectrum"), "holds a 'Spectrum'; known are"),
        (lambda d: d["arrays"].update({"../../x": "0"}), "is no name of an array"),
        (lambda d: d.update(arrays=[]), "model.json"),
        (lambda d: d.update(params=3), "model.json"),
        (lambda d: d["params"].update(surprise=1), "surprise"),
        (lambda d: d["scalars"].pop("feature_names_in_"), "feature_names_in_"),
        (lambda d: d["arrays"].pop("cluster_centers_"), "cluster_centers_"),
        (lambda d: d["scalars"].update(predict=1), "predict"),
    ],
)
def test_a_description_that_was_changed(
    saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(saved, change)
    with pytest.raises(ModelError, match=message):
        distclust.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "\xff", "[" * 100_000])
def test_a_description_that_is_none(saved: Path, text: str) -> None:
    (saved / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="is not a model description"):
        distclust.load(saved)


def test_a_description_too_large_to_be_ours(saved: Path) -> None:
    with (saved / "model.json").open("r+b") as stream:
        stream.truncate(2**25)
    with pytest.raises(ModelError, match="has 33554432 bytes, too many for a model"):
        distclust.load(saved)


def test_stored_models_round_trip(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int32)}
    written = StoredModel(kind="Any", params={"k": 2}, scalars={"x": 0.1, "y": None}, arrays=arrays)
    write_model(tmp_path, written)
    read = read_model(tmp_path)
    assert (read.kind, read.params, read.scalars) == ("Any", {"k": 2}, {"x": 0.1, "y": None})
    for name, array in arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)
        assert read.arrays[name].dtype == array.dtype


# scikit-learn's form --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scikit_learn_form_predicts_the_same(dtype: str, tmp_path: Path) -> None:
    X = np.array(blobs(500, dtype=dtype))
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    model = KMeans(4, random_state=0, max_iter=50).fit(frame)
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(frame), model.labels_)
    np.testing.assert_array_equal(theirs.labels_, model.labels_)
    np.testing.assert_allclose(theirs.transform(frame), model.transform(frame), rtol=1e-4)
    assert theirs.score(frame) == pytest.approx(-model.inertia_, rel=1e-5)
    assert (theirs.n_clusters, theirs.max_iter, theirs.tol) == (4, 50, 1e-4)
    assert theirs.feature_names_in_.tolist() == list("vwxyz")
    assert (theirs.inertia_, theirs.n_iter_) == (model.inertia_, model.n_iter_)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(theirs)).predict(frame), model.labels_)


def test_the_scikit_learn_form_of_a_model_from_disk(saved: Path) -> None:
    read = distclust.load(saved)
    theirs = read.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(blobs(500)), read.predict(blobs(500)))
    assert not hasattr(theirs, "labels_")


def test_the_scikit_learn_form_of_equal_centers_does_not_warn() -> None:
    X = np.repeat(np.eye(3), 4, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KMeans(5, random_state=0).fit(X)
    np.testing.assert_array_equal(model.to_sklearn().transform(X).shape, (12, 5))
