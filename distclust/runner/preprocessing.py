"""The preprocessing steps a job file can name: their parameters, and how to build each.

A new step is one parameter model and one `register_step` call; nothing else in the runner
asks which steps there are. Steps are fitted one after another by streaming the rows, see
`distclust.preprocessing.base`; what is kept of the rows is only what comes out of the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import Field, model_validator
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from distclust.data.blocks import DENSE_CELLS
from distclust.preprocessing import (
    PCA,
    Normalizer,
    RobustScaler,
    SimpleImputer,
    StandardScaler,
)
from distclust.preprocessing.base import RowTransformer
from distclust.preprocessing.statistics import COUNT_BYTES
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)
from distclust.runner.estimator_specs import Strict, said

__all__ = ["STEPS", "PreprocessStep", "RowShape", "register_step", "shapes_of", "step_bytes"]

SUM_BYTES = 8 * 200  # of one feature's exact sums
GRAM_BYTES = 6 * 8  # of one pair of features' exact sums of products
MATRIX_BYTES = 3 * 8  # of one entry of a matrix while it is made and arranged


class RowShape(NamedTuple):
    """What rows look like between two steps."""

    n_features: int
    itemsize: int  # bytes of a value


Spec = TypeVar("Spec", bound=Strict)


@dataclass(frozen=True, kw_only=True)
class PreprocessStep(Generic[Spec]):
    """One entry of the registry.

    Attributes
    ----------
    spec : type
        Parameter model; its field ``name`` is the literal that selects it.
    build : callable
        Makes the unfitted transformer from the spec and the number of partitions.
    shape : callable
        What rows look like afterwards, at most, from the spec, their shape before and how
        many there are.
    fitting_bytes : callable
        What a pass of the fit holds of its own, from the spec and the rows' shape.
    applying_bytes : callable
        What a worker holds to apply the step, besides pieces of rows; likewise.
    """

    spec: type[Spec]
    build: Callable[[Spec, int], RowTransformer]
    shape: Callable[[Spec, RowShape, int], RowShape] = lambda spec, shape, n_rows: shape
    fitting_bytes: Callable[[Spec, RowShape], int] = lambda spec, shape: 0
    applying_bytes: Callable[[Spec, RowShape], int] = lambda spec, shape: 0


STEPS: dict[str, PreprocessStep[Any]] = {}


def register_step(name: str, step: PreprocessStep[Any]) -> None:
    """Let jobs name a preprocessing step."""
    STEPS[name] = step


def shapes_of(specs: Sequence[Any], raw: RowShape, n_rows: int) -> list[RowShape]:
    """Return what rows look like before the first step, and after each."""
    shapes = [raw]
    for spec in specs:
        shapes.append(STEPS[spec.name].shape(spec, shapes[-1], n_rows))
    return shapes


def step_bytes(specs: Sequence[Any], shapes: Sequence[RowShape], threads: int) -> int:
    """Return the bytes a call needs to fit or apply steps, beside the rows it reads and keeps.

    Each thread has pieces of rows before and after each step, as doubles at most.
    """
    pieces = (len(specs) + 1) * 8 * DENSE_CELLS if specs else 0
    fitting = [
        STEPS[s.name].fitting_bytes(s, shape) for s, shape in zip(specs, shapes, strict=False)
    ]
    applying = [
        STEPS[s.name].applying_bytes(s, shape) for s, shape in zip(specs, shapes, strict=False)
    ]
    return threads * (pieces + 2 * max(fitting, default=0)) + sum(applying)


def _parameters(spec: Strict, n_partitions: int) -> dict[str, Any]:
    return {**spec.model_dump(exclude={"name"}), "n_partitions": n_partitions}


class StandardScalerSpec(Strict):
    """Parameters of `distclust.preprocessing.StandardScaler`."""

    name: Literal["standard_scaler"]
    with_mean: bool = True
    with_std: bool = True


Percentage = Annotated[float, Field(ge=0, le=100)]


class RobustScalerSpec(Strict):
    """Parameters of `distclust.preprocessing.RobustScaler`."""

    name: Literal["robust_scaler"]
    with_centering: bool = True
    with_scaling: bool = True
    quantile_range: Annotated[tuple[Percentage, Percentage], Field(strict=False)] = (25.0, 75.0)
    unit_variance: bool = False

    @model_validator(mode="after")
    def _check(self) -> RobustScalerSpec:
        low, high = self.quantile_range
        if low > high:
            raise said(f"[{low}, {high}] must be ascending", "quantile_range")
        return self


class NormalizerSpec(Strict):
    """Parameters of `distclust.preprocessing.Normalizer`."""

    name: Literal["normalizer"]
    norm: Literal["l1", "l2", "max"] = "l2"


class SimpleImputerSpec(Strict):
    """Parameters of `distclust.preprocessing.SimpleImputer`.

    Without `missing_values`, NaN and null are what is missing.
    """

    name: Literal["simple_imputer"]
    missing_values: float | None = None
    strategy: Literal["mean", "median", "most_frequent", "constant"] = "mean"
    fill_value: float | None = None
    add_indicator: bool = False
    keep_empty_features: bool = False

    def shape(self, before: RowShape, n_rows: int) -> RowShape:
        """Return what rows look like afterwards, at most."""
        wider = 2 if self.add_indicator else 1
        return before._replace(n_features=wider * before.n_features)

    def parameters(self, n_partitions: int) -> dict[str, Any]:
        """Return the transformer's parameters."""
        given = _parameters(self, n_partitions)
        if self.missing_values is None:
            given["missing_values"] = np.nan
        return given


def _counting(spec: Any, shape: RowShape) -> int:
    return COUNT_BYTES


def _summing(spec: Any, shape: RowShape) -> int:
    return SUM_BYTES * shape.n_features


register_step(
    "standard_scaler",
    PreprocessStep(
        spec=StandardScalerSpec,
        build=lambda spec, n: StandardScaler(**_parameters(spec, n)),
        fitting_bytes=_summing,
    ),
)
register_step(
    "robust_scaler",
    PreprocessStep(
        spec=RobustScalerSpec,
        build=lambda spec, n: RobustScaler(**_parameters(spec, n)),
        fitting_bytes=_counting,
    ),
)
register_step(
    "normalizer",
    PreprocessStep(spec=NormalizerSpec, build=lambda spec, n: Normalizer(**_parameters(spec, n))),
)
register_step(
    "simple_imputer",
    PreprocessStep(
        spec=SimpleImputerSpec,
        build=lambda spec, n: SimpleImputer(**spec.parameters(n)),
        shape=SimpleImputerSpec.shape,
        fitting_bytes=lambda spec, shape: max(_counting(spec, shape), _summing(spec, shape)),
    ),
)


class ProjectionSpec(Strict):
    """Parameters of random projections; `random_state` is 0 unless given, as everywhere in jobs."""

    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    eps: float = Field(default=0.1, gt=0, lt=1)
    random_state: int = Field(default=0, ge=0, lt=2**32)

    def shape(self, before: RowShape, n_rows: int) -> RowShape:
        """Return what rows look like afterwards."""
        if self.n_components != "auto":
            return before._replace(n_features=self.n_components)
        wanted = int(johnson_lindenstrauss_min_dim(n_rows, eps=self.eps))
        return before._replace(n_features=min(max(1, wanted), before.n_features))

    def matrix_bytes(self, before: RowShape) -> int:
        """Return what a worker holds while it makes the matrix, at most."""
        wanted = before.n_features if self.n_components == "auto" else self.n_components
        return MATRIX_BYTES * wanted * before.n_features


class GaussianRandomProjectionSpec(ProjectionSpec):
    """Parameters of `distclust.random_projection.GaussianRandomProjection`."""

    name: Literal["gaussian_random_projection"]


class SparseRandomProjectionSpec(ProjectionSpec):
    """Parameters of `distclust.random_projection.SparseRandomProjection`."""

    name: Literal["sparse_random_projection"]
    density: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = "auto"


class HadamardRandomProjectionSpec(ProjectionSpec):
    """Parameters of `distclust.random_projection.HadamardRandomProjection`."""

    name: Literal["hadamard_random_projection"]


class PCASpec(Strict):
    """Parameters of `distclust.preprocessing.PCA`."""

    name: Literal["pca"]
    n_components: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    whiten: bool = False

    def shape(self, before: RowShape, n_rows: int) -> RowShape:
        """Return what rows look like afterwards, at most."""
        most = min(n_rows, before.n_features)
        wanted = self.n_components if isinstance(self.n_components, int) else most
        return before._replace(n_features=min(wanted, most))


register_step(
    "gaussian_random_projection",
    PreprocessStep(
        spec=GaussianRandomProjectionSpec,
        build=lambda spec, n: GaussianRandomProjection(**_parameters(spec, n)),
        shape=ProjectionSpec.shape,
        applying_bytes=ProjectionSpec.matrix_bytes,
    ),
)
register_step(
    "sparse_random_projection",
    PreprocessStep(
        spec=SparseRandomProjectionSpec,
        build=lambda spec, n: SparseRandomProjection(**_parameters(spec, n)),
        shape=ProjectionSpec.shape,
        applying_bytes=ProjectionSpec.matrix_bytes,
    ),
)
register_step(
    "hadamard_random_projection",
    PreprocessStep(
        spec=HadamardRandomProjectionSpec,
        build=lambda spec, n: HadamardRandomProjection(**_parameters(spec, n)),
        shape=ProjectionSpec.shape,
    ),
)
register_step(
    "pca",
    PreprocessStep(
        spec=PCASpec,
        build=lambda spec, n: PCA(**_parameters(spec, n)),
        shape=PCASpec.shape,
        fitting_bytes=lambda spec, shape: GRAM_BYTES * shape.n_features**2,
        applying_bytes=lambda spec, shape: MATRIX_BYTES * shape.n_features**2,
    ),
)
