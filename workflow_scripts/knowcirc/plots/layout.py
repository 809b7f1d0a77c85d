"""Layered layout of a small circuit: layers upward, nodes of a layer side by side, few crossings.

1. Rows: input below, then each layer that has a drawn node (its heads, half a row higher its MLP), logits on top.
2. Columns: nodes move one at a time to the column, in a fixed order, that costs least: long edges, edges that run
   over other nodes and edges that cross cost; sweeps end when nothing moves. No randomness: same graph, same picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from knowcirc.plots.style import Plain

COLUMNS = 9
SWEEPS = 8


@dataclass(frozen=True, slots=True)
class Placed:
    """A node and where it is drawn, in units of rows and columns."""

    name: str
    kind: str
    layer: int
    x: float
    y: float


def place(nodes: Sequence[Plain], edges: Sequence[Plain]) -> dict[str, Placed]:
    """The shown nodes of a circuit with their places.

    Raises:
        ValueError: if no node is shown.
    """
    shown = [node for node in nodes if node.get("shown", True)]
    if not shown:
        raise ValueError("circuit drawing: no node is shown; mark some nodes as shown")
    rows = _rows(shown)
    placed = [Placed(n["name"], n["kind"], int(n["layer"]), 0.0, y) for n, y in zip(shown, rows, strict=True)]
    index = {node.name: i for i, node in enumerate(placed)}
    pairs = sorted({(index[e["src"]], index[e["dst"]]) for e in edges if e["src"] in index and e["dst"] in index})
    xs = _columns(placed, np.array(pairs, dtype=int).reshape(-1, 2))
    return {node.name: replace(node, x=float(x)) for node, x in zip(placed, xs, strict=True)}


def _rows(nodes: Sequence[Plain]) -> list[float]:
    stage = {"input": 0, "head": 1, "mlp": 2, "logits": 3}
    order = {"input": -1, "logits": 1}
    keys = [
        (order.get(n["kind"], 0), int(n["layer"]) if n["kind"] in ("head", "mlp") else 0, stage[n["kind"]])
        for n in nodes
    ]
    heights: dict[tuple[int, int, int], float] = {}
    y = 0.0
    previous: tuple[int, int, int] | None = None
    for key in sorted(set(keys)):
        if previous is not None:
            y += 0.72 if key[:2] == previous[:2] else 1.0
        heights[key] = y
        previous = key
    return [heights[key] for key in keys]


def _columns(nodes: Sequence[Placed], pairs: np.ndarray) -> np.ndarray:
    ys = np.array([node.y for node in nodes])
    xs = np.full(len(nodes), (COLUMNS - 1) / 2)
    free = [i for i, node in enumerate(nodes) if node.kind in ("head", "mlp")]
    for y in sorted({nodes[i].y for i in free}):
        row = [i for i in free if nodes[i].y == y]
        xs[row] = np.linspace(0, COLUMNS - 1, len(row) + 2)[1:-1].round() if len(row) < COLUMNS else range(len(row))
    columns = np.arange(max(COLUMNS, *np.unique(ys, return_counts=True)[1]), dtype=float)
    for _ in range(SWEEPS):
        moved = False
        for i in free:
            best = _best_column(i, xs, ys, pairs, columns)
            moved |= best != xs[i]
            xs[i] = best
        if not moved:
            break
    return xs


def _best_column(i: int, xs: np.ndarray, ys: np.ndarray, pairs: np.ndarray, columns: np.ndarray) -> float:
    current = float(xs[i])
    costs = []
    for column in columns:
        trial = xs.copy()
        trial[i] = column
        taken = bool(((np.abs(xs - column) < 0.9) & (ys == ys[i]) & (np.arange(len(xs)) != i)).any())
        costs.append(np.inf if taken else _cost(trial, ys, pairs) - 1e-6 * (column == current))
    return float(columns[int(np.argmin(costs))]) if np.isfinite(costs).any() else current


def _cost(xs: np.ndarray, ys: np.ndarray, pairs: np.ndarray) -> float:
    points = np.stack([xs, ys], 1)
    start, end = points[pairs[:, 0]], points[pairs[:, 1]]
    length = np.abs(end[:, 0] - start[:, 0]).sum()
    near = _distances(points, start, end)
    near[pairs[:, 0], np.arange(len(pairs))] = near[pairs[:, 1], np.arange(len(pairs))] = 9.0
    over = np.clip(0.75 - near, 0, None).sum()
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 9 * np.eye(len(points))
    return float(0.35 * length + 12.0 * over + 1.0 * _crossings(start, end) + 3.0 * np.clip(1.25 - gaps, 0, None).sum())


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of each point (rows) from each segment (columns)."""
    along = end - start
    length = np.maximum((along**2).sum(1), 1e-9)
    share = np.clip(((points[:, None] - start[None]) * along[None]).sum(2) / length, 0, 1)
    foot = start[None] + share[..., None] * along[None]
    return np.asarray(np.hypot(*(points[:, None] - foot).transpose(2, 0, 1)))


def _crossings(start: np.ndarray, end: np.ndarray) -> float:
    """Number of pairs of segments that properly cross."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        ab, ac = b - a, c - a
        return np.asarray(np.sign(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]))

    s, e = start[:, None], end[:, None]
    first = side(s, e, start[None]) * side(s, e, end[None]) < 0
    return float((first & first.T).sum()) / 2
