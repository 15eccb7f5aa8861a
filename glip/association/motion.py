"""Where boxes will be: a Kalman filter of constant velocity for each.

Centre, width and height of a box are filtered each by itself, which is what the filter of SORT
(arXiv 1602.00763) and its kin come to, as their noise has no cross terms. Noise is a share of the
box's size, as in DeepSORT (arXiv 1703.07402). Letters: N boxes; the second axis of a state is
(centre x, centre y, width, height), the third (value, change per frame).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

POSITION_NOISE = 1 / 20
"""Of a box's place and size, within a frame and in being measured; a share of its size."""
VELOCITY_NOISE = 1 / 160
"""Of how that changes, within a frame; a share of its size."""
FIRST_VELOCITY = 10 * VELOCITY_NOISE
"""How little is known of the velocity of a box that was seen once."""


class States(NamedTuple):
    """Boxes in motion."""

    mean: Floats
    """(N, 4, 2)"""
    covariance: Floats
    """(N, 4, 2, 2)"""

    def of(self, rows: npt.NDArray[np.bool_]) -> States:
        """Some of them."""
        return States(self.mean[rows], self.covariance[rows])

    @property
    def boxes(self) -> Floats:
        """(N, 4) xyxy, pixels."""
        centre, size = self.mean[:, :2, 0], self.mean[:, 2:, 0]
        return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def begun(boxes: npt.NDArray[np.floating]) -> States:
    """The states of (N, 4) xyxy boxes that were seen once, standing still."""
    measured = _measured(boxes)
    mean = np.stack([measured, np.zeros_like(measured)], axis=-1)
    covariance = np.zeros((*measured.shape, 2, 2))
    covariance[..., 0, 0] = (2 * POSITION_NOISE * _sizes(measured)) ** 2
    covariance[..., 1, 1] = (FIRST_VELOCITY * _sizes(measured)) ** 2
    return States(mean, covariance)


def predicted(states: States, frames: int) -> States:
    """The states so many frames later, less certain."""
    step = np.array([[1.0, 1.0], [0.0, 1.0]])
    mean, covariance = states
    for _ in range(frames):
        sizes = _sizes(mean[..., 0])
        mean = mean @ step.T
        covariance = step @ covariance @ step.T
        covariance[..., 0, 0] += (POSITION_NOISE * sizes) ** 2
        covariance[..., 1, 1] += (VELOCITY_NOISE * sizes) ** 2
    return States(mean, covariance)


def corrected(states: States, boxes: npt.NDArray[np.floating]) -> States:
    """The states after each box was seen again, at (N, 4) xyxy."""
    mean, covariance = states
    surprise = _measured(boxes) - mean[..., 0]  # (N, 4)
    noise = (POSITION_NOISE * _sizes(mean[..., 0])) ** 2
    gain = covariance[..., 0] / (covariance[..., 0, 0] + noise)[..., None]  # (N, 4, 2)
    return States(
        mean + gain * surprise[..., None],
        covariance - gain[..., None] * covariance[..., None, 0, :],
    )


def _measured(boxes: npt.NDArray[np.floating]) -> Floats:
    """(N, 4) xyxy -> (N, 4) centre and size."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    near, far = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(near + far) / 2, far - near], axis=1)


def _sizes(measured: Floats) -> Floats:
    """(N, 4) what the noise of each of centre and size is a share of: width or height."""
    return np.tile(np.abs(measured[:, 2:]).clip(min=1.0), 2)
