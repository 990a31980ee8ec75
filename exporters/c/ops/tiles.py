"""Products of rows with a matrix of weights, in tiles that stay in registers.

A tile is some rows (pixels) times one block of columns (output channels): each weight that is loaded serves all rows, and
columns stand next to each other, so that compilers make vectors of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..loops import c, index

LANES = 16
_MOST_ROWS = 8
Store = Callable[[str, str, str], str]


@dataclass(frozen=True)
class Tiles:
    """``count`` rows, ``step`` numbers apart, times ``columns`` columns.

    ``loops`` go around what is read: ``row`` is where the first row starts, ``weights`` where the weights of the first column
    do, and ``length`` is how many numbers of a row are multiplied in one go. Sums start at ``b``, one for each column.
    ``store`` has the text that stores a sum: of a row, a column, and the sum.
    """

    count: int
    step: int
    columns: int
    loops: str
    row: str
    weights: str
    length: int
    store: Store

    @property
    def tall(self) -> int:
        """How many rows a tile has: few tiles, and little that is computed twice."""
        choices = range(1, min(self.count, _MOST_ROWS) + 1)
        return min(choices, key=lambda p: (-(-self.count // p) * (p + 3), -p))

    def each(self, text: Callable[[int], str]) -> str:
        """A line for each row of a tile."""
        return "\n".join(text(p) for p in range(self.tall))


def blocks(count: int, lanes: int = LANES) -> list[tuple[int, int, int]]:
    """First, last and width of whole blocks of columns, then of what is left."""
    whole = count // lanes * lanes
    return [b for b in ((0, whole, lanes), (whole, count, count - whole)) if b[1] > b[0]]


def float_tiles(t: Tiles, ctype: str, along: int = 1, below: int | None = None) -> str:
    """Sums of floats. Numbers of a row are ``along`` apart, rows of the weights ``below``."""
    parts = []
    for first, last, width in blocks(t.columns):
        inner = c(
            """
            for (int k = 0; k < $length; k++) {
                const $t *v = $weights + k * $below + o;
                $loads
                for (int i = 0; i < $width; i++) {
                    $sums
                }
            }
            """,
            length=t.length,
            t=ctype,
            weights=t.weights,
            below=t.columns if below is None else below,
            width=width,
            loads=t.each(lambda p: f"const {ctype} f{p} = r[{index([('k', along), (str(p), t.step * (p > 0))])}];"),
            sums=t.each(lambda p: f"a{p}[i] += f{p} * v[i];"),
        )
        parts.append(_tiles(t, (first, last, width), (ctype, ctype), inner, width))
    return "\n".join(parts)


def code_tiles(t: Tiles) -> str:
    """Sums of integers: rows of bytes, four of which are multiplied at once, and weights as ``packed`` lays them."""
    inner = c(
        """
        for (int k = 0; k < $length; k += 4) {
            const int8_t *v = $weights + k * $wide + 4 * o;
            $sums
        }
        """,
        length=t.length,
        weights=t.weights,
        wide=-(-t.columns // LANES) * LANES,
        sums=t.each(lambda p: f"net_dot(a{p}, r + k + {p * t.step}, v);"),
    )
    found = blocks(t.columns)
    return "\n".join(_tiles(t, (a, b, LANES), ("uint8_t", "int32_t"), inner, width) for a, b, width in found)


def channel_tiles(t: Tiles, types: tuple[str, str, str]) -> str:
    """A filter for each channel: columns of rows times weights of the same column. Types of rows, sums and weights."""
    parts = []
    for first, last, width in blocks(t.columns, 32 if types[1] == "int32_t" else LANES):
        inner = c(
            """
            const $w *v = $weights + o;
            for (int i = 0; i < $width; i++) {
                $sums
            }
            """,
            w=types[2],
            weights=t.weights,
            width=width,
            sums=t.each(lambda p: f"a{p}[i] += ({types[1]})r[o + i + {p * t.step}] * v[i];"),
        )
        parts.append(_tiles(t, (first, last, width), types[:2], inner, width))
    return "\n".join(parts)


def _tiles(t: Tiles, block: tuple[int, int, int], types: tuple[str, str], inner: str, stored: int) -> str:
    first, last, width = block
    return c(
        """
        for (int o = $first; o < $last; o += $width) {
            for (int q = 0; q < $count; q += $tall) {
                $back
                $acc $sums;
                for (int i = 0; i < $width; i++) {
                    $start
                }
                $loops {
                    const $t *r = $row + q * $step;
                    $inner
                }
                for (int i = 0; i < $stored; i++) {
                    $stores
                }
            }
        }
        """,
        first=first,
        last=last,
        width=width,
        count=t.count,
        tall=t.tall,
        back=f"if (q > {t.count - t.tall}) q = {t.count - t.tall};" if t.count % t.tall else "",
        acc=types[1],
        sums=", ".join(f"a{p}[{width}]" for p in range(t.tall)),
        start=t.each(lambda p: f"a{p}[i] = {'b[o + i]' if stored == width else f'i < {stored} ? b[o + i] : 0'};"),
        loops=t.loops,
        t=types[0],
        row=t.row,
        step=t.step,
        inner=inner,
        stored=stored,
        stores=t.each(lambda p: f"{{\n    {t.store(f'(q + {p})', '(o + i)', f'a{p}[i]')}\n}}"),
    )


def packed(weights: np.ndarray) -> np.ndarray:
    """Weights four rows of a column together, rows and columns filled up with zeros.

    Shapes: weights (..., rows, columns); result (..., rows / 4, columns in whole blocks, 4), rounded up.
    """
    *lead, rows, columns = weights.shape
    deep, wide = -(-rows // 4) * 4, -(-columns // LANES) * LANES
    full = np.zeros((*lead, deep, wide), np.int8)
    full[..., :rows, :columns] = weights
    return np.ascontiguousarray(full.reshape(*lead, deep // 4, 4, wide).swapaxes(-1, -2))
