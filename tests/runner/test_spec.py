"""Job files: what is accepted, and what the message says when it is not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distclust.errors import ConfigError
from distclust.runner.spec import JobSpec, load_job, parse_job
from distclust.runner.yamlfile import MAX_BYTES, parse_yaml

JOB = """\
input: {path: "data/pixels/*.parquet", columns: [red, green, blue], id_columns: []}
preprocess: []
algorithm: {name: kmeans, n_clusters: 16, random_state: 0}
backend: {name: local, workers: 2, threads_per_worker: 1, partitions: 8}
output: {path: out/pixels, columns: [distance], overwrite: true}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_job(write(tmp_path, text), overrides)
    return str(caught.value)


def test_the_documented_job_file_is_read_whole(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, JOB))
    assert job.input.columns == ("red", "green", "blue")
    assert job.n_clusters == 16
    assert job.backend.model_dump(exclude_none=True) == {
        "name": "local",
        "workers": 2,
        "threads_per_worker": 1,
        "partitions": 8,
        "insecure": False,
    }
    assert job.output.overwrite
    assert job.algorithm.model_dump() == {
        "name": "kmeans",
        "n_clusters": 16,
        "init": "sampled",
        "n_init": "auto",
        "max_iter": 300,
        "tol": 1e-4,
        "metric": "euclidean",
        "random_state": 0,
    }


def test_written_out_job_reads_back_to_itself(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, JOB))
    assert parse_job(job.as_dict()) == job


def test_a_job_cannot_be_changed(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, JOB))
    with pytest.raises(ValueError, match="frozen"):
        job.output.overwrite = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n_clusters", "n_cluster", "{}:3: algorithm.n_cluster: unknown key; did you mean "
         "algorithm.n_clusters?"),
        ("columns: [red", "colums: [red", "{}:1: input.colums: unknown key; did you mean "
         "input.columns?"),
        ("preprocess: []", "n_clusters: 3", "{}:2: n_clusters: unknown key; did you mean "
         "algorithm.n_clusters?"),
        ("backend:", "backnd:", "{}:4: backnd: unknown key; did you mean backend?"),
        ("preprocess: []", "preprocess: [normalizer]", "{}:2: preprocess[0]: must hold keys: "
         "{{name: standard_scaler, with_mean: true, ...}}"),
        ("preprocess: []", "preprocess: {name: normalizer}", "{}:2: preprocess: must be a list, "
         "got {{'name': 'normalizer'}}"),
        ("preprocess: []", "preprocess: [{name: standard_scale}]", "{}:2: preprocess[0].name: must "
         "be one of: gaussian_random_projection, hadamard_random_projection, normalizer, pca, "
         "robust_scaler, simple_imputer, sparse_random_projection, standard_scaler, got "
         "'standard_scale'; did you mean 'standard_scaler'?"),
        ("preprocess: []", "preprocess: [{name: normalizer}, {name: standard_scaler, with_men: no}"
         "]", "{}:2: preprocess[1].with_men: unknown key; did you mean preprocess[1].with_mean?"),
        ("preprocess: []", "preprocess: [{name: robust_scaler, quantile_range: [75, 25]}]",
         "{}:2: preprocess[0].quantile_range: [75.0, 25.0] must be ascending"),
        ("name: kmeans", "name: kmean", "{}:3: algorithm.name: must be one of: "
         "bisecting_kmeans, hdbscan, kmeans, minibatch_kmeans, sample_then_assign, got 'kmean'; "
         "did you mean 'kmeans'?"),
        ("name: local", "name: loca", "{}:4: backend.name: must be 'local', 'ray' or 'dask', got "
         "'loca'; did you mean 'local'?"),
        ("n_clusters: 16", "n_clusters: 0", "{}:3: algorithm.n_clusters: must be greater than or "
         "equal to 1, got 0"),
        ("n_clusters: 16", "n_clusters: '16'", "{}:3: algorithm.n_clusters: must be a valid "
         "integer, got '16'"),
        ("n_clusters: 16", "n_clusters: true", "{}:3: algorithm.n_clusters: must be a valid "
         "integer, got True"),
        ("random_state: 0", "n_init: 0", "{}:3: algorithm.n_init: must be 'auto' or greater than "
         "or equal to 1, got 0"),
        ("random_state: 0", "tol: .nan", "{}:3: algorithm.tol: must be a finite number, got nan"),
        ("random_state: 0", "init: [[1, x]]", "{}:3: algorithm.init[0][1]: must be a valid number, "
         "got 'x'"),
        ("[red, green, blue]", "[red, 3]", "{}:1: input.columns[1]: must be text; put it in "
         "quotes, got 3"),
        ("[red, green, blue]", "[red, red]", "{}:1: input.columns: 'red' is listed twice"),
        ("[red, green, blue]", "red", "{}:1: input.columns: must be a list, got 'red'"),
        ("id_columns: []", "vector: v", "{}:1: input: give either columns or vector, not both"),
        ("id_columns: []", "weight: red", "{}:1: input.weight: 'red' is also one of the columns"),
        ("workers: 2", "address: x", "{}:4: backend.address: is for name: ray or dask; the local "
         "backend has none"),
        ("[distance]", "[distanc]", "{}:5: output.columns: kmeans gives no column 'distanc'; it "
         "offers: label, distance"),
        ("path: out/pixels, ", "", "{}:5: output.path: is required"),
    ],
)  # fmt: skip
def test_a_mistake_is_located_and_corrected(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in JOB
    message = refused(tmp_path, JOB.replace(old, new, 1))
    assert message == expected.format(tmp_path / "job.yaml")


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    text = JOB.replace("kmeans", "dbscan").replace("overwrite", "overwrit")
    lines = refused(tmp_path, text.replace("workers: 2", "workers: 0")).splitlines()
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("- a", "is a list"),
        ("a: &x 1\nb: *x", ":2: alias *x: aliases are not accepted"),
        ("a: 1\na: 2", ":2: the key 'a' is written twice"),
        ("a: !!python/object/apply:os.system [ls]", ":1: tag"),
        ("a: [1, 2", ":1: "),
        ("[" * 100, "nested deeper than"),
        ("a: " + "9" * 5000, "an integer of 5000 digits"),
        ("a: \x07", "unacceptable character"),
        ("? [a, b]\n: 1", "a key must be a plain word"),
        ("--- 1\n--- 2", "another document"),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_job_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refused(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_job(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_job(tmp_path / "latin.yaml")


def test_scalars_follow_yaml_1_2() -> None:
    text = "[yes, 2024-01-01, 1:30, 1e-4, 1_000, true, ~, 0o17, '1', .5]"
    assert parse_yaml(text, "x").value == [
        "yes", "2024-01-01", "1:30", 1e-4, "1_000", True, None, "0o17", "1", 0.5,
    ]  # fmt: skip


class TestOverrides:
    def test_values_are_yaml(self, tmp_path: Path) -> None:
        job = load_job(
            write(tmp_path, JOB),
            ["algorithm.tol=1e-3", "input.columns=[x, y]", "backend.name=ray", "output.path=a=b"],
        )
        assert job.algorithm.model_dump()["tol"] == 1e-3
        assert job.input.columns == ("x", "y")
        assert (job.backend.name, job.output.path) == ("ray", "a=b")

    def test_the_last_one_wins(self, tmp_path: Path) -> None:
        job = load_job(write(tmp_path, JOB), ["backend.workers=3", "backend.workers=4"])
        assert job.backend.workers == 4

    def test_sections_are_made(self, tmp_path: Path) -> None:
        text = "\n".join(line for line in JOB.splitlines() if not line.startswith("backend"))
        assert load_job(write(tmp_path, text), ["backend.name=dask"]).backend.name == "dask"

    def test_null_goes_back_to_the_default(self, tmp_path: Path) -> None:
        assert load_job(write(tmp_path, JOB), ["backend.workers=null"]).backend.workers is None

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("backend", "--set 'backend': write it as key.subkey=value"),
            ("=3", "--set '=3': write it as key.subkey=value"),
            ("a..b=3", "--set 'a..b=3': write it as key.subkey=value"),
            ("backend.worker=3", "--set backend.worker: backend.worker: unknown key; did you mean "
             "backend.workers?"),
            ("backend.workers=x", "--set backend.workers: backend.workers: must be a valid "
             "integer, got 'x'"),
            ("backend.workers.x=3", "--set backend.workers.x: backend.workers holds a value, not "
             "keys"),
            ("backend.workers=[", "--set backend.workers:1: "),
        ],
    )  # fmt: skip
    def test_a_mistake_names_the_override(
        self, tmp_path: Path, override: str, expected: str
    ) -> None:
        assert refused(tmp_path, JOB, override).startswith(expected)


def test_secrets_are_not_written_out() -> None:
    job = parse_job(
        {
            "input": {"path": "s3://key:hunter2@bucket/rows?token=hunter2"},
            "algorithm": {"name": "kmeans"},
            "backend": {"name": "ray", "address": "ray://me:hunter2@host:10001"},
            "output": {"path": "az://c@account/x?sig=hunter2"},
        }
    )
    assert "hunter2" not in str(job.as_dict())


def test_secrets_are_not_in_messages(tmp_path: Path) -> None:
    assert "hunter2" not in refused(tmp_path, JOB, "backend.workers='s3://a:hunter2@b/c'")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(
    ["name", "kmeans", "path", "columns", "n_clusters", "init", "random", "ray", "distance"]
)
trees = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner),
    max_leaves=8,
)


def mutations(value: Any) -> st.SearchStrategy[Any]:
    """The documented job, with anything anywhere."""
    if isinstance(value, Mapping):
        fields = {key: mutations(item) for key, item in value.items()}
        whole = st.fixed_dictionaries(fields)
        more = st.tuples(whole, st.dictionaries(words | st.text(max_size=4), trees, max_size=1))
        return st.one_of(whole, more.map(lambda pair: {**pair[0], **pair[1]}), trees)
    return st.just(value) | st.just(value) | trees


@given(mutations(yaml.safe_load(JOB)))
@example({"algorithm": {"name": ["kmeans"]}})
@settings(max_examples=300, deadline=None)
def test_any_values_give_a_job_or_a_config_error(value: Any) -> None:
    if not isinstance(value, Mapping):
        return
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_job(value), JobSpec)


@given(st.text(alphabet=st.characters(max_codepoint=255)) | st.text().map(lambda t: JOB + t))
@settings(max_examples=300, deadline=None)
def test_any_text_is_yaml_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(text, "job.yaml")


@given(st.binary(max_size=200), st.lists(st.text(max_size=20), max_size=2))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_and_overrides_give_a_job_or_a_config_error(
    tmp_path: Path, content: bytes, overrides: list[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(JOB.encode() + content)
    with contextlib.suppress(ConfigError):
        load_job(path, overrides)
