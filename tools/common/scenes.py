"""This module paints synthetic scenes of which everything is known: the truth for detectors and their explanations.

A scene has discs, triangles and squares of any colour on a noisy background with lines and stray dots. A square has a
small mark on it, a red or a blue dot, which alone decides its class; stray dots of both colours lie beside the objects
too, so that a dot without its square means nothing. Objects never overlap. Everything is numpy, in whole pixels, and
follows from the generator that is given: box, mask and mark of an object are exact, and a scene can be painted again
with an object left out, moved, or of another class.

    >>> scene = random_scene(np.random.default_rng(0))
    >>> scene.image_rgb.shape, scene.boxes.shape[1:]
    ((96, 96, 3), (4,))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

SIZE = 96
"""The height and width of a scene in pixels, unless another is asked for."""
LABELS = ("disc", "triangle", "square with a red dot", "square with a blue dot")
"""The classes by number."""
DISC, TRIANGLE, RED_DOT, BLUE_DOT = range(4)
MARKS = {RED_DOT: (235, 20, 20), BLUE_DOT: (20, 20, 235)}
"""The classes that a mark decides, with the mark's RGB colour."""

RADII = ((5, 8), (8, 13), (13, 22))
"""The radii of small, middle-sized and large objects: from the first number up to below the second."""
MOST_OBJECTS = 4
_GAP = 3
"""So many pixels lie between two objects at least."""
_TRIES = 40
_CONTRAST = 35
"""A colour of an object differs so much from that of the background in a channel at least."""
_CLUTTER = 6
"""A scene has fewer lines, and fewer stray dots, than this."""

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """A Shape is one object of a scene.

    Attributes:
        label: its class, a place in `LABELS`.
        x, y: the pixel in its middle.
        radius: it reaches so many pixels to each side of the middle.
        colour: RGB 0..255; in squares it says nothing of the class.
        mark: (dx, dy) of the mark's middle from the object's; used in squares only.
        seed: what its grain is drawn from; shapes that differ in x and y alone have the same pixels.
    """

    label: int
    x: int
    y: int
    radius: int
    colour: tuple[int, int, int]
    mark: tuple[int, int] = (0, 0)
    seed: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return (x1, y1, x2, y2), the edges of the object's pixels."""
        return self.x - self.radius, self.y - self.radius, self.x + self.radius + 1, self.y + self.radius + 1

    @property
    def mark_radius(self) -> int:
        """Return how far the mark reaches to each side of its middle, in pixels."""
        return max(2, self.radius // 4)

    def mask(self, size: tuple[int, int]) -> Mask:
        """Return which pixels of a picture of (height, width) are the object's, with its mark: bool [H,W]."""
        dx, dy, r = *_offsets(size, self.x, self.y), self.radius
        if self.label == DISC:
            return dx**2 + dy**2 <= r * r + r
        if self.label == TRIANGLE:
            return (np.abs(dy) <= r) & (2 * np.abs(dx) <= dy + r)
        return (np.abs(dx) <= r) & (np.abs(dy) <= r)

    def mark_mask(self, size: tuple[int, int]) -> Mask:
        """Return which pixels of a picture of (height, width) decide the class: bool [H,W], none where no mark does."""
        if self.label not in MARKS:
            return np.zeros(size, np.bool_)
        return _dot(size, self.x + self.mark[0], self.y + self.mark[1], self.mark_radius)

    def moved(self, dx: int, dy: int) -> Shape:
        """Return the same object elsewhere, pixel for pixel."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def paint(self, image_rgb: Image) -> None:
        """Paint the object into a picture, [H,W,3] uint8 RGB, in place; what lies outside is cut off."""
        size = image_rgb.shape[:2]
        grain = np.random.default_rng(self.seed).normal(0.0, 8.0, (2 * self.radius + 1, 2 * self.radius + 1, 3))
        rows, columns = np.nonzero(self.mask(size))
        around = grain[rows - self.y + self.radius, columns - self.x + self.radius]
        image_rgb[rows, columns] = np.clip(np.rint(self.colour + around), 0, 255)
        if self.label in MARKS:
            image_rgb[self.mark_mask(size)] = MARKS[self.label]


@dataclass(frozen=True)
class Scene:
    """A Scene is a background, uint8 [H,W,3] RGB, and the objects on it."""

    background: Image
    shapes: tuple[Shape, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        height, width = self.background.shape[:2]
        return height, width

    @property
    def image_rgb(self) -> Image:
        """Return the painted scene, uint8 [H,W,3] RGB, a new array each time."""
        image = self.background.copy()
        for shape in self.shapes:
            shape.paint(image)
        return image

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the classes of the objects, int64 [n]."""
        return np.array([shape.label for shape in self.shapes], np.int64)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Return the boxes of the objects, float32 [n,4]: x1, y1, x2, y2 in pixels."""
        return np.array([shape.box for shape in self.shapes], np.float32).reshape(-1, 4)

    @property
    def masks(self) -> Mask:
        """Return the pixels of each object, bool [n,H,W]."""
        return np.array([shape.mask(self.size) for shape in self.shapes], np.bool_).reshape(-1, *self.size)

    @property
    def marks(self) -> Mask:
        """Return the pixels that decide the class of each object, bool [n,H,W]; none of discs and triangles."""
        return np.array([shape.mark_mask(self.size) for shape in self.shapes], np.bool_).reshape(-1, *self.size)

    def of(self, shapes: Sequence[Shape]) -> Scene:
        """Return a scene of other objects on the same background."""
        return Scene(self.background, tuple(shapes))

    def without(self, index: int) -> Scene:
        """Return the scene with an object left out."""
        return self.of([shape for n, shape in enumerate(self.shapes) if n != index])

    def changed(self, index: int, shape: Shape) -> Scene:
        """Return the scene with another object in the place of one."""
        return self.of([shape if n == index else one for n, one in enumerate(self.shapes)])


def random_scene(
    rng: np.random.Generator,
    size: tuple[int, int] = (SIZE, SIZE),
    count: int | None = None,
    labels: Sequence[int] | None = None,
) -> Scene:
    """Return a scene of objects that do not overlap.

    Args:
        rng: everything random is drawn from it.
        size: (height, width) in pixels.
        count: how many objects; None for 1 to 4. There may be fewer where no room is left.
        labels: the classes of the objects, in order; None for random ones. With `labels`, `count` is their number.
    """
    background = random_background(rng, size)
    wanted = len(labels) if labels is not None else int(rng.integers(1, MOST_OBJECTS + 1)) if count is None else count
    behind = np.median(background, (0, 1))
    shapes: list[Shape] = []
    for n in range(wanted):
        for _ in range(_TRIES):
            shape = random_shape(rng, size, None if labels is None else labels[n], behind)
            if not any(_overlap(shape, other) for other in shapes):
                shapes.append(shape)
                break
    return Scene(background, tuple(shapes))


def shipped_scene() -> Scene:
    """Return the scene of `sample_models/pictures/shapes.png`: two squares that their marks tell apart, and others."""
    return random_scene(np.random.default_rng(33), labels=[RED_DOT, BLUE_DOT, DISC, TRIANGLE])


def twins(
    rng: np.random.Generator, label: int, size: tuple[int, int] = (SIZE, SIZE), *, step: int = 32
) -> tuple[Scene, int]:
    """Return a scene of two objects with the same pixels, and how many pixels the second lies to the right.

    They lie a multiple of `step` pixels apart on an even background, so that a network whose strides divide `step` sees
    the same of both, but for the edges of the picture.

    Args:
        rng: everything random is drawn from it.
        label: the class of both.
        size: (height, width), wide enough for two objects of the smallest radii.
        step: the distance is a multiple of this.
    """
    even = np.broadcast_to(rng.integers(60, 191, 3).astype(np.uint8), (*size, 3)).copy()
    while True:
        shape = random_shape(rng, size, label, even[0, 0])
        twin = shape.moved(step * int(rng.integers(1, max(2, size[1] // step))), 0)
        if not _overlap(shape, twin) and twin.box[2] <= size[1]:
            return Scene(even, (shape, twin)), twin.x - shape.x


def random_shape(
    rng: np.random.Generator, size: tuple[int, int], label: int | None = None, behind: npt.ArrayLike = (0, 0, 0)
) -> Shape:
    """Return an object that lies within a picture, and can be told from what is behind it.

    Args:
        rng: everything random is drawn from it.
        size: (height, width) of the picture.
        label: its class; None for any.
        behind: the colour of the background, RGB 0..255.
    """
    low, high = RADII[int(rng.integers(len(RADII)))]
    radius = int(rng.integers(low, min(high, min(size) // 2 - 1)))
    y, x = (int(rng.integers(radius + 1, side - radius - 1)) for side in size)
    label = int(rng.integers(len(LABELS))) if label is None else label
    while np.abs(np.subtract(colour := rng.integers(90, 200, 3), behind)).max() < _CONTRAST:
        pass
    red, green, blue = (int(value) for value in colour)
    reach = radius - max(2, radius // 4) - 1
    dx, dy = (int(value) for value in rng.integers(-reach, reach + 1, 2))
    return Shape(label, x, y, radius, (red, green, blue), (dx, dy), int(rng.integers(2**31)))


def random_background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Return a noisy background with some lines and stray dots, uint8 [H,W,3] RGB."""
    image = _smoothed(rng.normal(rng.uniform(60, 190, 3), 12.0, (*size, 3)))
    for _ in range(int(rng.integers(_CLUTTER))):
        (x1, x2), (y1, y2) = rng.uniform(0, size[1], 2), rng.uniform(0, size[0], 2)
        image[_line(size, (x1, y1), (x2, y2))] = rng.integers(0, 255, 3)
    for _ in range(int(rng.integers(_CLUTTER))):
        colour = MARKS[RED_DOT] if rng.integers(2) else MARKS[BLUE_DOT]
        y, x = (int(rng.integers(side)) for side in size)
        image[_dot(size, x, y, int(rng.integers(2, 5)))] = colour
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _offsets(size: tuple[int, int], x: int, y: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how far each pixel lies to the right of, and below, a pixel: int64 [1,W] and [H,1]."""
    return np.arange(size[1])[None] - x, np.arange(size[0])[:, None] - y


def _dot(size: tuple[int, int], x: int, y: int, radius: int) -> Mask:
    """Return the pixels of a round dot, bool [H,W]."""
    dx, dy = _offsets(size, x, y)
    return dx**2 + dy**2 <= radius * radius + 1


def _line(size: tuple[int, int], start: tuple[float, float], end: tuple[float, float]) -> Mask:
    """Return the pixels of a line of one pixel's width between two points x, y, bool [H,W]."""
    along = np.subtract(end, start)
    dx, dy = (np.arange(size[axis]) + 0.5 - start[1 - axis] for axis in (1, 0))
    dx, dy = dx[None], dy[:, None]
    part = np.clip((dx * along[0] + dy * along[1]) / max(float(along @ along), 1e-9), 0.0, 1.0)
    near: Mask = (dx - part * along[0]) ** 2 + (dy - part * along[1]) ** 2 <= 0.36
    return near


def _smoothed(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return [H,W,3] smoothed along both axes by (1, 2, 1) / 4; the outer pixels are repeated."""
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if n == axis else (0, 0) for n in range(3)], mode="edge")
        length = image.shape[axis]
        before, here, after = (np.take(padded, np.arange(n, n + length), axis) for n in range(3))
        image = (before + 2 * here + after) / 4
    return image


def _overlap(one: Shape, other: Shape) -> bool:
    """Tell whether two objects come nearer than the gap between the squares around them."""
    reach = one.radius + other.radius + _GAP
    return abs(one.x - other.x) <= reach and abs(one.y - other.y) <= reach
