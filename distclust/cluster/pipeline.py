"""Fitted preprocessing and a clusterer as one: scored, saved, and seen in the rows' own units.

A pipeline is scikit-learn's. On disk it is a directory that says so, with one model of each
step in a numbered directory inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from distclust.data.blocks import Block, Partition
from distclust.data.steps import RowStep, transformed
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import ModelError
from distclust.model import StoredModel, write_model

__all__ = ["PIPELINE", "StepScorer", "original_centers", "pipeline_of", "save"]

PIPELINE = "Pipeline"
Scorer = Callable[[Block], Mapping[str, npt.NDArray[Any]]]


class StepScorer:
    """Computes output columns of raw rows: a step, then the scorer of what it makes.

    Parameters
    ----------
    step : RowStep
    scorer : callable
    """

    def __init__(self, step: RowStep, scorer: Scorer) -> None:
        self.step, self.scorer = step, scorer

    def __call__(self, block: Block) -> Mapping[str, npt.NDArray[Any]]:
        shares = Partition([block]).shares(n_threads())
        made = map_tiles(
            lambda share: [transformed(self.step, piece.block).X for piece in share], shares
        )
        parts = [X for of_share in made for X in of_share] or [transformed(self.step, block).X]
        X = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self.scorer(Block(X, block.row_start, block.weights))


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator or pipeline into directory `path`; `distclust.load` reads it.

    Parameters
    ----------
    model : estimator of distclust, or `sklearn.pipeline.Pipeline` of such
    path : path
        Made if missing. Nothing is pickled.

    Raises
    ------
    ModelError
        A step cannot be saved.
    """
    if not isinstance(model, Pipeline):
        if not hasattr(model, "save"):
            raise ModelError(f"{type(model).__name__} is no estimator of distclust")
        model.save(path)
        return
    names = [name for name, step in model.steps if step not in (None, "passthrough")]
    for number, name in enumerate(names):
        save(model[name], Path(path) / str(number))
    write_model(path, StoredModel(kind=PIPELINE, params={}, scalars={"steps": names}))


def pipeline_of(stored: StoredModel, load: Callable[[Path], Any], path: Path) -> Pipeline:
    """Rebuild a pipeline from what `save` wrote, each step by `load`.

    Raises
    ------
    ModelError
        It is not as it was saved.
    """
    names = stored.scalars.get("steps")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ModelError(f"{path}: the names of the pipeline's steps are missing")
    return Pipeline([(name, load(path / str(number))) for number, name in enumerate(names)])


def original_centers(steps: list[Any], centers: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return centers as rows before all `steps`, or None if one of those cannot be undone."""
    if not all(step.invertible for step in steps):
        return None
    for step in reversed(steps):
        centers = step.inverse_transform(centers.astype(np.float64))
    return centers
