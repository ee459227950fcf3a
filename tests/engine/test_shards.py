"""map, gather and reduce when all goes well, and what algorithms may rely on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from distclust.engine.events import StageDone, StageProgress, StageStarted
from distclust.engine.loop import IN_FLIGHT_PER_SLOT, Reply, Tag
from distclust.engine.shards import FAN_IN, Session, merge_replies, partitions_for
from distclust.engine.threads import (
    PRODUCTS_PER_ROW,
    PRODUCTS_PER_THREAD,
    map_tiles,
    n_threads,
    n_threads_for,
    worker_threads,
)
from distclust.errors import DataError
from tests.engine.helpers import (
    Gate,
    Heard,
    Numbers,
    Watched,
    as_set,
    joined,
    number,
    shards_of,
    times,
)

COUNTS = [1, 2, FAN_IN - 1, FAN_IN, FAN_IN + 1, 2 * FAN_IN, 2 * FAN_IN + 3, 64]


@pytest.fixture
def backend() -> Iterator[Watched]:
    with Watched() as backend:
        yield backend


@pytest.mark.parametrize("n", COUNTS)
def test_map_yields_each_partition_once(backend: Watched, n: int) -> None:
    assert sorted(shards_of(backend, n).map(times, 3)) == [(i, 3 * i) for i in range(n)]


@pytest.mark.parametrize("n", COUNTS)
def test_gather_is_in_partition_order(backend: Watched, n: int) -> None:
    assert shards_of(backend, n).gather(number) == list(range(n))


def test_map_yields_in_order_of_completion(backend: Watched) -> None:
    gate = Gate(0)
    order = []
    for index, _ in shards_of(backend, 2).map(gate):
        order.append(index)
        gate.open.set()
    assert order == [1, 0]


@pytest.mark.parametrize("n", COUNTS)
def test_reduce_merges_each_partition_once(backend: Watched, n: int) -> None:
    assert shards_of(backend, n).reduce(as_set, joined) == list(range(n))
    assert (backend.combined > 0) == (n > FAN_IN)


def test_reduce_merges_in_groups_on_the_workers(backend: Watched) -> None:
    shards_of(backend, 3 * FAN_IN).reduce(as_set, joined)
    assert backend.combined == 3


def test_one_call_a_partition(backend: Watched) -> None:
    shards_of(backend, 20).reduce(as_set, joined)
    assert sorted(backend.calls) == [(i, 1) for i in range(20)]
    assert sorted(backend.places) == list(range(20))


@pytest.mark.parametrize("workers", [1, 3])
def test_calls_in_flight_are_limited(workers: int) -> None:
    with Watched(workers=workers) as backend:
        assert shards_of(backend, 40).reduce(as_set, joined) == list(range(40))
        assert backend.most_in_flight == IN_FLIGHT_PER_SLOT * workers
        assert not backend.in_flight


def test_a_broadcast_is_put_once_and_sent_as_its_reference(backend: Watched) -> None:
    shards = shards_of(backend, 12)
    factor = shards.session.broadcast(5)
    for _ in range(2):
        assert shards.gather(times, factor) == [5 * i for i in range(12)]
    assert len(backend.puts) == 1
    assert set(backend.sent) == {backend.puts[0]}


class Scaled:
    """Numbers of which every recipe has the same factor."""

    def __init__(self, factor: list[int]) -> None:
        self.factor = factor

    def plan(self, n_partitions: int) -> list[tuple[Any, ...]]:
        return [(self.factor, i) for i in range(n_partitions)]

    @staticmethod
    def load(factor: list[int], i: int) -> int:
        return factor[0] * i


def test_what_recipes_share_is_sent_once(backend: Watched) -> None:
    factor = [7]
    shards = Session(backend).shard(Scaled(factor), 12)
    assert shards.gather(number) == [7 * i for i in range(12)]
    assert [ref.where for ref in backend.puts] == [factor]
    assert Session(backend).shard(Scaled([7]), 1).gather(number) == [0]
    assert len(backend.puts) == 1


def test_default_number_of_partitions_is_one_a_worker(backend: Watched) -> None:
    assert len(Session(backend).shard(Numbers())) == 2


@pytest.mark.parametrize(
    ("n_rows", "row_nbytes", "expected"),
    [
        (10, 8, 3),  # one a worker: the source makes fewer of fewer rows
        (12 << 20, 8, 3),  # four million rows at most
        ((12 << 20) + 1, 8, 6),  # as many for each worker
        (100 << 20, 8, 27),
        (1 << 20, 1 << 15, 66),  # half a gigabyte at most
        (5, 1 << 40, 6),  # a row at least
    ],
)
def test_rows_are_split_for_three_workers(n_rows: int, row_nbytes: int, expected: int) -> None:
    assert partitions_for(n_rows, row_nbytes, 3) == expected


def test_a_source_without_rows_is_refused(backend: Watched) -> None:
    class Empty(Numbers):
        def plan(self, n_partitions: int) -> list[tuple[int]]:
            return []

    with pytest.raises(DataError, match="the input has no rows; nothing can be clustered"):
        Session(backend).shard(Empty(), 3)


def test_futures_stay_on_the_workers(backend: Watched) -> None:
    shards = shards_of(backend, 3)
    futures = shards.futures(times, shards.session.broadcast(2))
    assert [backend.fetch(future) for future in futures] == [0, 2, 4]


def test_a_reply_cannot_be_merged_twice() -> None:
    one, two = (Reply(frozenset([Tag("run", 1, i, 1)]), [i]) for i in range(2))
    both = merge_replies(joined, one, two)
    assert (both.value, both.tags) == ([0, 1], one.tags | two.tags)
    with pytest.raises(AssertionError, match="a reply was merged twice"):
        merge_replies(joined, both, two)


def odd_half(resident: int, divisor: int) -> int | None:
    """A view of the odd numbers alone."""
    return resident // divisor if resident % 2 else None


@pytest.mark.parametrize("n", COUNTS[1:])
def test_a_view_is_what_functions_are_called_with(backend: Watched, n: int) -> None:
    view = shards_of(backend, n).viewed(odd_half, 2)
    halves = [i // 2 for i in range(1, n, 2)]
    assert sorted(view.map(times, 3)) == [(i, 3 * (i // 2)) for i in range(1, n, 2)]
    assert view.gather(number) == halves
    assert view.reduce(as_set, joined) == halves


def test_a_view_is_for_calls_alone(backend: Watched) -> None:
    view = shards_of(backend, 2).viewed(odd_half, 2)
    for refused in (view.futures, view.remote, view.viewed):
        with pytest.raises(TypeError, match="a view"):
            refused(number)


# Events ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, FAN_IN, 3 * FAN_IN + 1])
@pytest.mark.parametrize("verb", ["gather", "reduce"])
def test_progress_counts_up_to_every_partition(backend: Watched, verb: str, n: int) -> None:
    heard = Heard()
    shards = shards_of(backend, n, heard)
    with shards.session.stage("counting"):
        if verb == "gather":
            shards.gather(number)
        else:
            shards.reduce(as_set, joined)
    progress = heard.of(StageProgress)
    assert [event.done for event in progress] == list(range(1, n + 1))
    assert {(event.stage, event.total) for event in progress} == {("counting", n)}


def test_a_stage_begins_and_ends(backend: Watched) -> None:
    heard = Heard()
    shards = shards_of(backend, 1, heard)
    with shards.session.stage("one"):
        shards.gather(number)
    kinds = [type(event) for event in heard]
    assert kinds == [StageStarted, StageProgress, StageDone]
    assert heard[0].stage == heard[-1].stage == "one"
    assert heard[-1].seconds >= 0


def test_every_listener_hears_every_event(backend: Watched) -> None:
    one, two = Heard(), Heard()
    session = Session(backend, listeners=iter([one, two]))
    session.shard(Numbers(), 3).gather(number)
    assert len(one) == 3
    assert one == two


# Threads of a call ------------------------------------------------------------------------


def report_threads(_resident: Any) -> tuple[int, int, set[int]]:
    """Kernel threads of this call; threads that tiles ran on side by side; BLAS threads."""
    from threadpoolctl import threadpool_info

    together = threading.Barrier(n_threads())

    def tile(_: int) -> int:
        together.wait(timeout=60)
        return threading.get_ident()

    seen = set(map_tiles(tile, range(n_threads())))
    blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return n_threads(), len(seen), blas


@pytest.mark.parametrize("threads", [1, 3])
def test_calls_have_the_threads_of_their_worker_and_blas_has_one(threads: int) -> None:
    with Watched() as backend:
        backend.threads_per_worker = threads
        for found, seen, blas in shards_of(backend, 3).gather(report_threads):
            assert found == seen == threads
            assert blas <= {1}
    assert n_threads() == 1


def test_few_products_are_not_worth_other_threads() -> None:
    few, some, many = (PRODUCTS_PER_THREAD * times for times in (1, 3, 100))
    assert [n_threads_for(1, products) for products in (0, few, many)] == [1, 1, 1]
    with worker_threads(4):
        assert [n_threads_for(1, products) for products in (0, few, some, many)] == [1, 1, 3, 4]
        assert n_threads_for(1, many, 2) == 2
        assert n_threads_for(3 * PRODUCTS_PER_THREAD // PRODUCTS_PER_ROW, 0) == 3


def square_tiles(resident: int) -> list[int]:
    return map_tiles(lambda tile: tile * tile, range(resident))


def test_tiles_come_back_in_order() -> None:
    with Watched() as backend:
        backend.threads_per_worker = 2
        assert shards_of(backend, 6).gather(square_tiles)[5] == [0, 1, 4, 9, 16]


def fail_in_a_tile(resident: int) -> list[int]:
    return map_tiles(lambda tile: 1 // tile, range(resident))


def test_an_error_in_a_tile_is_the_error_of_the_call() -> None:
    with Watched() as backend:
        backend.threads_per_worker = 2
        with pytest.raises(Exception, match="ZeroDivisionError"):
            shards_of(backend, 3).gather(fail_in_a_tile)
        assert n_threads() == 1
