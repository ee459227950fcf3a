"""What a run compares: which fits the contenders are asked for, and by what they are judged."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import Problem
from benchmarks.contender import Contender, Request

__all__ = ["MODES", "Mode"]

TOL = 1e-4  # scikit-learn's defaults
MAX_ITER = 300


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A way of comparing.

    Attributes
    ----------
    name : str
    title : str
        For tables and plots.
    budgets : tuple of (int or None)
        A fit is asked for with each of these limits on its iterations; None is the
        library's own.
    tol : float or None
    given_centers : bool
        Whether everyone starts from the same centers. If not, seeding is part of the fit.
    new_seeds : bool
        Whether each round has another seed.
    """

    name: str
    title: str
    budgets: tuple[int | None, ...]
    tol: float | None
    given_centers: bool
    new_seeds: bool = False

    def admits(self, contender: Contender) -> bool:
        """Tell whether a contender can take part."""
        return contender.exact or not self.given_centers

    def warm_up(self, problem: Problem) -> Request:
        """Return a short fit that touches what the timed ones will."""
        return self._request(problem, max_iter=2, tol=0.0, seed=0)

    def request(
        self,
        problem: Problem,
        contender: Contender,
        *,
        budget: int | None,
        seed: int,
        reference: int | None,
    ) -> Request:
        """Return what to ask of a contender.

        Parameters
        ----------
        problem : Problem
        contender : Contender
        budget : int or None
        seed : int
        reference : int or None
            Iterations that scikit-learn took to converge, for those that stop otherwise.
        """
        tol = self.tol
        if self.given_centers and tol and not contender.stops_alike:
            if reference is None:
                raise ValueError("it is given scikit-learn's number of iterations: add sklearn")
            budget, tol = reference, 0.0
        return self._request(problem, max_iter=budget, tol=tol, seed=seed)

    def _request(
        self, problem: Problem, *, max_iter: int | None, tol: float | None, seed: int
    ) -> Request:
        return Request(
            n_clusters=len(problem.centers),
            centers=problem.centers if self.given_centers else None,
            max_iter=max_iter,
            tol=tol,
            seed=seed,
        )


MODES = {
    mode.name: mode
    for mode in (
        Mode(
            name="iterations",
            title="a fixed number of iterations from the same centers",
            budgets=(10,),
            tol=0.0,
            given_centers=True,
        ),
        Mode(
            name="converge",
            title=f"to convergence (tol={TOL:g}) from the same centers",
            budgets=(MAX_ITER,),
            tol=TOL,
            given_centers=True,
        ),
        Mode(
            name="default",
            title="default fits, seeding included",
            budgets=(None,),
            tol=None,
            given_centers=False,
            new_seeds=True,
        ),
        Mode(
            name="curve",
            title="inertia over time, seeding included",
            budgets=(1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 300),
            tol=None,
            given_centers=False,
        ),
    )
}
