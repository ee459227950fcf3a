"""What ``verbose`` prints: scikit-learn's lines."""

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
                self._line(f"Iteration {event.iteration - 1}, inertia {event.inertia}.")
                if event.converged == "strict convergence":
                    self._line(f"Converged at iteration {event.iteration - 1}: strict convergence.")
                elif event.converged:
                    self._line(
                        f"Converged at iteration {event.iteration - 1}: center shift "
                        f"{event.center_shift} within tolerance {event.tolerance}."
                    )

    @staticmethod
    def _line(text: str) -> None:
        sys.stdout.write(text + "\n")
