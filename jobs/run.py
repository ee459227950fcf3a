"""Runs a job file: ``ray job submit --working-dir . -- python jobs/run.py jobs/kmeans.yaml``.

The same as ``distclust run``, for a cluster where the package comes with the working
directory and is not installed. All arguments of ``distclust run`` work here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distclust.cli import app

if __name__ == "__main__":
    app(["run", *sys.argv[1:]])
