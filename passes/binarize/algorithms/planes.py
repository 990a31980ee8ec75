"""Two planes of signs with the scales of least squared error."""

from __future__ import annotations

from .binarizer import Problem, binarizer
from .codes import Code
from .descent import fit_code
from .fit import alternate_fit
from .residual import greedy


@binarizer("planes", (0.1175, 0.1762), by_rows=True)
def planes(problem: Problem) -> Code:
    """Two planes of signs, scales and signs fitted in turn; never worse than ``residual``, for the same bits.

    Source: Guo et al., "Network Sketching: Exploiting Binary Structure in Deep CNNs", CVPR 2017, arXiv:1706.02021 (scales
    by least squares); Xu et al., "Alternating Multi-bit Quantization for Recurrent Neural Networks", ICLR 2018,
    arXiv:1802.00150 (in turn with the nearest signs).
    """
    return fit_code(problem, alternate_fit(problem.wanted, greedy(problem)))
