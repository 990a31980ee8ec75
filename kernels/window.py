"""What a window that moves over an image covers, for convolution and pooling alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Kernel, strides and dilations down and across; pads top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.strides, *self.dilations) < 1 or min(self.pads) < 0:
            raise ValueError(f"a window needs positive sizes and pads of at least 0: {self}")

    def out(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result. Raises ValueError where the window does not fit once."""
        sizes = []
        for axis, size in enumerate((height, width)):
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            room = size + self.pads[axis] + self.pads[axis + 2] - reach
            if size < 1 or room < 0:
                raise ValueError(f"a window of {reach} does not fit into {size} with pads {self.pads}")
            sizes.append(room // self.strides[axis] + 1)
        return sizes[0], sizes[1]

    def taps(self) -> list[tuple[int, int]]:
        """Down and across from a window's corner to each of its elements, in the order of a filter's bits."""
        down, across = self.dilations
        return [(i * down, j * across) for i in range(self.kernel[0]) for j in range(self.kernel[1])]


@dataclass(frozen=True)
class ConvWindow(Window):
    """The window of a convolution of signs; ``pad_value`` (-1, 0 or +1) stands in the padding."""

    group: int = 1
    pad_value: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 1 or self.pad_value not in (-1, 0, 1):
            raise ValueError(f"group is at least 1 and pad_value one of -1, 0, 1: {self}")
