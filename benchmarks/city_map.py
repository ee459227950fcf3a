"""Draws the clusters of the job ``jobs/cities.yaml`` on a map of the world."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

__all__ = ["draw", "equal_earth", "spread_colors"]

WIDTH, HEIGHT, DPI = 9.0, 4.5, 200  # inches, and pixels in one
NOISE = "#c4c4c4"
COLORS = (
    "#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#7b3fb5", "#00a6a6",
    "#e0359b", "#8a5a2b", "#9bb31a", "#1a3a8f", "#f2b705", "#0b6b3a",
)  # fmt: skip
MEMBERS = 12  # that stand for a cluster where distances between clusters are taken
PALETTE = 96  # colors in the file


def draw(job: Path, data: Path, png: Path) -> int:
    """Join labels and places by id, and draw noise in grey under clusters in colors.

    Parameters
    ----------
    job : Path
        Output of the job: a directory with ``labels/``.
    data : Path
        What ``distclust example cities`` wrote, angles in radians.
    png : Path
        File to write.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    labels = pq.read_table(job / "labels", columns=["id", "label"])
    places = pq.read_table(data, columns=["id", "latitude", "longitude"])
    table = places.join(labels, "id").sort_by("id")
    latitude, longitude, label = (
        table[name].to_numpy() for name in ("latitude", "longitude", "label")
    )
    noise = label < 0
    colors = spread_colors(latitude, longitude, label)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    panel = figure.add_axes((0.005, 0.01, 0.99, 0.86))
    _frame(panel)
    x, y = equal_earth(latitude, longitude)
    panel.scatter(x[noise], y[noise], s=0.5, c=NOISE, linewidths=0)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~noise))  # none lies on top
    panel.scatter(x[order], y[order], s=0.9, c=np.take(COLORS, colors[label[order]]), linewidths=0)
    figure.text(
        0.012, 0.94, "Cities and towns of the world, by HDBSCAN", fontsize=13, weight="bold"
    )
    figure.text(
        0.012,
        0.893,
        f"{len(label):,} places, great-circle distance: {len(colors)} clusters of 100 or more; "
        f"{noise.mean():.0%} are noise (grey). Distant clusters share colors.",
        fontsize=8.5,
        color="#444444",
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(png, optimize=True)
    return 0


def _frame(panel: Any) -> None:
    """Outline the map, without Antarctica."""
    panel.set_axis_off()
    panel.set_aspect("equal")
    edge = np.linspace(np.radians(-57), np.radians(79), 200)
    x, y = equal_earth(edge, np.full(200, np.pi))
    outline = np.concatenate([x, -x[::-1], x[:1]]), np.concatenate([y, y[::-1], y[:1]])
    panel.set_xlim(-1.01 * x.max(), 1.01 * x.max())
    panel.set_ylim(y.min() - 0.01, y.max() + 0.01)
    panel.fill(*outline, facecolor="#fafafa", edgecolor="#dddddd", linewidth=0.6)


def equal_earth(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project the sphere to the plane so that areas keep their ratios.

    The projection is B. Šavrič, T. Patterson and B. Jenny's "Equal Earth" (2018).

    Parameters
    ----------
    latitude, longitude : ndarray of shape (n,)
        Radians.

    Returns
    -------
    x, y : ndarray of shape (n,)
        Of a sphere of radius one.

    Examples
    --------
    >>> x, y = equal_earth(np.array([0.0, np.pi / 2]), np.array([np.pi, 0.0]))
    >>> x.round(3), y.round(3)
    (array([2.707, 0.   ]), array([0.   , 1.317]))
    """
    a = (1.340264, -0.081106, 0.000893, 0.003796)
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(latitude))
    sixth = theta**6
    slope = a[0] + 3 * a[1] * theta**2 + sixth * (7 * a[2] + 9 * a[3] * theta**2)
    x = 2 / np.sqrt(3) * longitude * np.cos(theta) / slope
    y = theta * (a[0] + a[1] * theta**2 + sixth * (a[2] + a[3] * theta**2))
    return x, y


def spread_colors(latitude: np.ndarray, longitude: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Give each cluster the color whose nearest bearer is farthest, large clusters first.

    Returns
    -------
    ndarray of shape (n_clusters,), int
        Indices into `COLORS`.
    """
    sphere = np.column_stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(label == c) for c in range(label.max() + 1)]
    some = np.array([sphere[rng.choice(rows, MEMBERS)] for rows in members])
    cosine = np.einsum("aid,bjd->abij", some, some, optimize=True).max(axis=(2, 3))
    chosen = np.full(len(members), -1)
    for cluster in sorted(range(len(members)), key=lambda c: -len(members[c])):
        closest = [
            cosine[cluster, chosen == color].max(initial=-1.0) for color in range(len(COLORS))
        ]
        chosen[cluster] = np.argmin(closest)
    return chosen
