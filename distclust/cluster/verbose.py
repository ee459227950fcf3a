"""What ``verbose`` prints: scikit-learn's lines, of several runs with their numbers."""

from __future__ import annotations

import sys

from distclust.engine.events import Event, IterationDone, StageDone

__all__ = ["VerboseOutput"]


class VerboseOutput:
    """Prints what scikit-learn prints when ``verbose`` is set."""

    def __call__(self, event: Event) -> None:
        match event:
            case StageDone(stage="seeding"):
                self._line("Initialization complete")
            case IterationDone():
                run = f"Run {event.run}: " if event.n_runs > 1 else ""
                last = f"{run}Converged at iteration {event.iteration - 1}:"
                self._line(f"{run}Iteration {event.iteration - 1}, inertia {event.inertia}.")
                if event.converged == "strict convergence":
                    self._line(f"{last} strict convergence.")
                elif event.converged:
                    self._line(
                        f"{last} center shift {event.center_shift} within tolerance "
                        f"{event.tolerance}."
                    )

    @staticmethod
    def _line(text: str) -> None:
        sys.stdout.write(text + "\n")
