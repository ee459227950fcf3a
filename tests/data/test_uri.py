from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from distclust.data.uri import hive_keys, join, open_path, resolve, scrub
from distclust.errors import ConfigError, DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.parquet",
        "b.parq",
        "notes.txt",
        "_metadata.parquet",
        ".hidden.parquet",
        "year=2023/c.parquet",
        "year=2024/deep/d.parquet",
        "_staging/e.parquet",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.parquet", "b.parq", "year=2023/c.parquet", "year=2024/deep/d.parquet"]),
        ("*.parquet", ["a.parquet"]),
        ("?.par*", ["a.parquet", "b.parq"]),
        ("**/*.parquet", ["a.parquet", "year=2023/c.parquet", "year=2024/deep/d.parquet"]),
        ("year=*", ["year=2023/c.parquet", "year=2024/deep/d.parquet"]),
        ("year=*/**/d.parquet", ["year=2024/deep/d.parquet"]),
        ("**", ["a.parquet", "b.parq", "year=2023/c.parquet", "year=2024/deep/d.parquet"]),
        ("notes.txt", ["notes.txt"]),
        ("[ab].par*", ["a.parquet", "b.parq"]),
    ],
)
def test_a_path_finds_its_files_in_order(tree: Path, pattern: str, names: list[str]) -> None:
    found = resolve(tree / pattern)
    assert [file.path for file in found] == [str(tree / name) for name in names]
    assert all(file.size == 1 for file in found)


def test_a_list_keeps_its_order_and_counts_a_file_once(tree: Path) -> None:
    found = resolve([tree / "b.parq", str(tree / "*.par*")])
    assert [Path(file.path).name for file in found] == ["b.parq", "a.parquet"]


def test_a_literal_name_wins_over_its_meaning_as_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].parquet").write_bytes(b"x")
    assert len(resolve(tmp_path / "a[1].parquet")) == 1


def test_relative_paths_and_file_uris_become_absolute(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    expected = [str(tree / "a.parquet")]
    assert [file.path for file in resolve("a.parquet")] == expected
    assert [file.path for file in resolve(f"file://{tree}/a.parquet")] == expected


@pytest.mark.parametrize("pattern", ["missing", "*.csv", "year=1999/*.parquet", "a.parquet/*"])
def test_no_match_names_the_pattern(tree: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="no Parquet file found") as caught:
        resolve(tree / pattern)
    assert pattern in str(caught.value)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(DataError, match="list of paths is empty"):
        resolve([])


def test_memory_uris_are_listed_and_opened_again() -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/uri/year=1/a.parquet", b"one")
    files.pipe("/uri/b.parquet", b"three")
    found = resolve("memory://uri/**/*.parquet")
    assert [(file.path, file.size) for file in found] == [
        ("memory://uri/b.parquet", 5),
        ("memory://uri/year=1/a.parquet", 3),
    ]
    filesystem, inner = open_path(found[1].path)
    with filesystem.open_input_stream(inner) as stream:
        assert stream.read() == b"one"


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match="pip install adlfs"):
        resolve("az://container/data/*.parquet")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        resolve("nosuch://bucket/data")


def test_hive_keys_are_decoded_and_null_is_none() -> None:
    path = "s3://b/year=2024/a%2Fb=c%20d/z=__HIVE_DEFAULT_PARTITION__/x=1.parquet"
    assert hive_keys(path) == {"year": "2024", "a/b": "c d", "z": None}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:sec/ret@bucket/x", "s3://***@bucket/x"),
        ("s3://token@bucket/x", "s3://***@bucket/x"),
        ("az://c/x?sv=1&sig=abc%3D: denied", "az://c/x?*** denied"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("s3://bucket/part-?.parquet", "s3://bucket/part-?.parquet"),
        ("/local/user@host/a=1", "/local/user@host/a=1"),
    ],
)
def test_secrets_are_scrubbed(text: str, clean: str) -> None:
    assert scrub(text) == clean


def test_secrets_of_a_pattern_stay_out_of_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("az://user:hunter2@container/data?sig=hunter3")
    assert "hunter" not in str(caught.value)


def test_join_goes_in_front_of_the_query() -> None:
    assert join("s3://b/out?region=x", "labels", "a") == "s3://b/out/labels/a?region=x"
    assert join("/out", "a?b=c") == "/out/a?b=c"
