"""Which person continues which track, given their distances; and the ids of the tracks."""

import numbers
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Pairs = tuple[np.ndarray, np.ndarray]
"""Tracks and people that are linked: row and column numbers of a cost matrix."""


def hungarian(cost: np.ndarray, gate: np.ndarray) -> Pairs:
    """One to one with the least total cost; leaving a pair apart costs as much as the largest gate.

    Args:
        cost: `(m, n)` from every track to every person; infinite or NaN where nothing is known.
        gate: `(m, n)`, the largest cost of a link.

    Raises:
        ImportError: If scipy is missing.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            "method='hungarian' needs scipy: pip install \"actionzoo[video]\"; method='greedy' does without"
        ) from error
    allowed = _allowed(cost, gate)
    # dearer than any link, if only just; without a gate so dear that as many are linked as can be
    largest = gate[allowed].max(initial=0.0)
    price = largest + 1e-6 * max(largest, 1.0) if np.isfinite(largest) else cost[allowed].sum() + 1
    tracks, people = linear_sum_assignment(np.where(allowed, cost, price))
    kept = allowed[tracks, people]
    return tracks[kept], people[kept]


def greedy(cost: np.ndarray, gate: np.ndarray) -> Pairs:
    """One to one, the nearest pair first; equals in the order of tracks, then people."""
    open_cost = np.where(_allowed(cost, gate), cost, np.inf)
    tracks, people = [], []
    for _ in range(min(cost.shape)):
        track, person = np.unravel_index(open_cost.argmin(), cost.shape)
        if open_cost[track, person] == np.inf:
            break
        tracks.append(track)
        people.append(person)
        open_cost[track, :] = open_cost[:, person] = np.inf
    return np.asarray(tracks, dtype=np.int64), np.asarray(people, dtype=np.int64)


def printed(cost: np.ndarray, gate: np.ndarray) -> Pairs:
    """Every track takes its nearest person; one that several take stays with the nearest of them."""
    open_cost = np.where(_allowed(cost, gate), cost, np.inf)
    nearest = open_cost.argmin(1)
    distance = open_cost[np.arange(len(cost)), nearest]
    tracks = np.argsort(distance, kind="stable")
    tracks = tracks[np.isfinite(distance[tracks])]
    people, first = np.unique(nearest[tracks], return_index=True)
    return tracks[first], people


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Pairs]] = {
    "hungarian": hungarian,
    "greedy": greedy,
    "printed": printed,
}


def _allowed(cost: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """Pairs within their gate; NaN in either is outside."""
    return np.isfinite(cost) & (cost <= gate)


class Tracks:
    """The tracks alive: their ids and the frames that each has missed in a row."""

    def __init__(self, method: str, patience: int) -> None:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
        if not isinstance(patience, numbers.Integral) or patience < 0:
            raise ValueError(f"patience is a whole number of frames, at least 0, got {patience!r}")
        self.assign, self.patience, self.next_id = METHODS[method], patience, 0
        self.ids, self.missed = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def step(self, cost: np.ndarray, gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Link the n people of the next frame to the m tracks alive.

        Returns:
            Ids `(n,)`, and the numbers of the tracks that are alive now, counted through (m tracks before, n people).
        """
        before, count = cost.shape
        ids, lost = np.full(count, -1, dtype=np.int64), np.ones(before, dtype=bool)
        if cost.size:
            tracks, people = self.assign(cost, gate)
            ids[people] = self.ids[tracks]
            lost[tracks] = False
        new = np.flatnonzero(ids < 0)
        ids[new] = self.next_id + np.arange(len(new))
        self.next_id += len(new)

        waiting = np.flatnonzero(lost & (self.missed < self.patience))
        self.missed = np.concatenate([self.missed[waiting] + 1, np.zeros(count, dtype=np.int64)])
        self.ids = np.concatenate([self.ids[waiting], ids])
        return ids, np.concatenate([waiting, before + np.arange(count)])


def to_numpy(values: Tensor, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A frame's values in float64 on the CPU; None in `shape` stands for any length.

    Raises:
        TypeError: If it is not a tensor of numbers.
        ValueError: If the shape is another.
    """
    if not isinstance(values, Tensor) or values.is_complex() or values.dtype == torch.bool:
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} of a frame are a tensor of numbers, got {kind}")
    fits = values.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, values.shape))
    if not fits:
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} of a frame have the shape ({wanted}), got {tuple(values.shape)}")
    return values.detach().to("cpu", torch.float64).numpy()
