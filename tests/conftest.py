"""One real Ray and one real Dask cluster for all tests, on this machine only.

The environment is pinned before ray, dask or numba are imported, for this process and
for the workers it starts.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# how long an example takes says something of the machine, and of what is compiled first
hypothesis.settings.register_profile("distclust", deadline=None)
hypothesis.settings.load_profile("distclust")

os.environ["RAY_AUTH_MODE"] = "disabled"  # a local start would turn tokens on for all of us
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listen on the loopback interface only
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # says so itself in a warning else
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"distclust-numba-{os.getuid()}")
)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

CPUS = 2


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Address of a Ray cluster of 2 CPUs that this process has joined."""
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():  # its defaults set what it deprecates, the first time
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("ray.data").DataContext.get_current()
    context = ray.init(
        "local",
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[str]:
    """Address of a Dask scheduler with 2 worker processes that nannies restart."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    patient = {"distributed.deploy.lost-worker-timeout": "300s"}  # else it gives a slow nanny up
    with (
        dask.config.set(patient),
        distributed.LocalCluster(
            n_workers=CPUS,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
        ) as cluster,
    ):
        yield cluster.scheduler_address
