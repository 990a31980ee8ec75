"""Best factors of a matrix, by its entries alone or by what it makes of real inputs.

With *H* the second moments of the rows that a layer sees, an error *E* of its matrix costs ``tr(E H Eᵀ)`` at its output.
One kernel position: the optimum is closed. Several positions *d* that share the inner factor, ``W_d = F_d V``:

    F | V   least squares on the features V u_d
    V | F   Σ_de F_dᵀ F_e V H_ed = Σ_d F_dᵀ R_d     with R = W H, by conjugate gradients

Source: least squares of the activations, layer after layer: Zhang et al., PAMI 2016, arXiv:1505.06798; reduced rank
regression: Izenman, Journal of Multivariate Analysis 5, 1975; whitening: Wang et al., "SVD-LLM", arXiv:2403.07378.
Differs: spatial factors by alternation under the full moments, which neither does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from ...graph.layer import AT_ONCE, Floats

ROUNDS, STEPS = 6, 6
"""Alternations, and conjugate gradient steps in each."""
_WIDE, _WIDE_ROUNDS, _WIDE_STEPS = 2048, 3, 4
"""Columns from which on it is cut short, as it would take minutes."""
_TINY = 1e-10
_SKETCHED, _SPARE, _MORE, _POWERS, _EXCESS = 4096, 8, 16, 2, 0.25
"""Of random sketches: the shorter side from which on there are some, the least quotient of that and the rank, columns
beyond the rank, power iterations, and what the squared error may be above the least."""
_PROBES, _STEPS_OF_NORM, _SURE = 8, 6, 1.1
"""Of the norm of what a sketch missed: vectors, steps, and what it is multiplied by to be sure."""


def truncate_rank(w: Floats, rank: int, h: Floats | None = None) -> tuple[Floats, Floats]:
    """The matrix of this rank that is nearest, by outputs where ``h`` is given. Shapes: (m, n) -> (m, r), (r, n).

    At full rank it is exact whatever the rounding, as one factor is orthonormal.
    """
    if h is None:
        wide = w.shape[0] <= w.shape[1]
        basis = _range(w if wide else w.T, rank)
        if basis is None:
            basis = _leading(_gram(w), rank)
        basis = basis.astype(w.dtype, copy=False)
        return (basis, basis.T @ w) if wide else (w @ basis, basis.T)
    if w.shape[0] <= w.shape[1]:
        u = _leading(w @ h @ w.T, rank)
        return u, u.T @ w
    root = np.linalg.cholesky(h)
    white = w @ root
    q = _leading(white.T @ white, rank)
    return white @ q, scipy.linalg.solve_triangular(root, q, lower=True, trans="T").T


def energies(w: Floats) -> Floats:
    """Squared singular values, the largest first."""
    return np.maximum(np.linalg.eigvalsh(_gram(w))[::-1], 0.0)


def _gram(w: Floats) -> Floats:
    """Of the shorter side, in double precision: of a matrix in single precision piece by piece."""
    a = w if w.shape[0] <= w.shape[1] else w.T
    if w.dtype == np.float64:
        return a @ a.T
    return np.asarray(sum(piece @ piece.T for piece in _pieces(a)))


def _pieces(a: Floats) -> Iterator[Floats]:
    """Some columns after the other in double precision."""
    few = max(1, AT_ONCE // len(a))
    for at in range(0, a.shape[1], few):
        yield a[:, at : at + few].astype(np.float64)


def _range(a: Floats, rank: int) -> Floats | None:
    """Orthonormal columns that span nearly the best of this rank, found by a random sketch of a large matrix.

    None where that would be no faster than the Gram matrix's eigenvectors, or where the squared error may be more than
    ``_EXCESS`` above the least: that is at most the rank times the squared norm of what the sketch missed, by Ky Fan's
    inequality for ``AᵀA = (QᵀA)ᵀ(QᵀA) + RᵀR``; the norm is found by the power method from random vectors.

    Source: Halko et al., "Finding Structure with Randomness", SIAM Review 53, 2011, arXiv:0909.4061, algorithm 4.4.
    Differs: the bound, which is of squared errors. Shapes: (m, n), m the shorter side -> (m, rank).
    """
    if len(a) <= _SKETCHED or _SPARE * rank > len(a):
        return None
    rng = np.random.default_rng(0)
    q = a @ rng.standard_normal((a.shape[1], rank + _MORE), dtype=np.float32)
    for _ in range(_POWERS):
        q = a @ (a.T @ np.linalg.qr(q)[0])
    q = np.linalg.qr(q)[0]
    seen = q.T @ a
    energy, vectors = np.linalg.eigh(_gram(seen))
    probes = rng.standard_normal((a.shape[1], _PROBES), dtype=np.float32)
    for _ in range(_STEPS_OF_NORM):
        rest = a @ np.linalg.qr(probes)[0]
        rest -= q @ (q.T @ rest)
        probes = a.T @ rest
    missed = _SURE * float(np.linalg.norm(rest, 2))
    error = sum(float(np.square(piece).sum()) for piece in _pieces(a)) - float(energy[-rank:].sum())
    return q @ vectors[:, ::-1][:, :rank] if rank * missed**2 <= _EXCESS * error else None


def alternate_factors(
    w: Floats, h: Floats, rank: int, *, outer_rank: int | None = None
) -> tuple[Floats, Floats, Floats | None]:
    """Factors under the moments ``h``. Shapes: w (d, o, n), h (d, n, d, n) -> V (r, n), F (d, o, r), U or None.

    With ``outer_rank`` F is what U (o, outer_rank) makes of a smaller one: the result is then V, C (d, k, r) and U.
    """
    slots, outputs, n = w.shape
    wide = slots * n > _WIDE
    rounds, steps = (_WIDE_ROUNDS, _WIDE_STEPS) if wide else (ROUNDS, STEPS)
    metric = np.einsum("dndm->nm", h) / slots
    inverse = scipy.linalg.cho_factor(metric + _TINY * np.trace(metric) / n * np.eye(n), lower=True)
    wanted = np.tensordot(w.transpose(1, 0, 2).reshape(outputs, -1), h.reshape(slots * n, -1), 1)
    wanted = wanted.reshape(outputs, slots, n)
    v = truncate_rank(w.reshape(slots * outputs, n), rank, metric + _TINY * np.trace(metric) / n * np.eye(n))[1]
    v = _orthonormal(v, metric)
    for _ in range(rounds):
        f = _outer(v, h, wanted)
        if outer_rank is not None:
            u, c = _narrow(f, v, h, outer_rank)
            f = np.matmul(u, c)
        v = _orthonormal(_inner(f, v, h, wanted, inverse, steps), metric)
    f = _outer(v, h, wanted)
    if outer_rank is None:
        return v, f, None
    u, c = _narrow(f, v, h, outer_rank)
    return v, c, u


def _outer(v: Floats, h: Floats, wanted: Floats) -> Floats:
    """F for a given V. Shapes: (d, o, r)."""
    outputs, slots, _ = wanted.shape
    rank = len(v)
    seen = np.matmul(np.matmul(v, h.reshape(slots, h.shape[1], -1)).reshape(slots, rank, slots, -1), v.T)
    gram = seen.reshape(slots * rank, slots * rank)
    right = np.matmul(wanted, v.T).reshape(outputs, -1)
    return _positive_solve(gram, right.T).T.reshape(outputs, slots, rank).transpose(1, 0, 2)


def _inner(f: Floats, v: Floats, h: Floats, wanted: Floats, inverse: tuple[Floats, bool], steps: int) -> Floats:
    """V for a given F, from the last one, by preconditioned conjugate gradients. Shapes: (r, n)."""
    slots, _, rank = f.shape
    n = v.shape[1]
    pairs = np.einsum("dor,eoq->dreq", f, f).reshape(slots, rank, slots * rank)
    flat = h.reshape(slots, n, slots * n)

    def apply(x: Floats) -> Floats:
        seen = np.matmul(x, flat).reshape(slots * rank, slots, n)
        return np.asarray(sum(pairs[d] @ seen[:, d] for d in range(slots)))

    own = np.einsum("dor,doq->rq", f, f)
    ours = scipy.linalg.cho_factor(own + _TINY * max(np.trace(own) / rank, 1e-30) * np.eye(rank), lower=True)

    def precondition(x: Floats) -> Floats:
        return scipy.linalg.cho_solve(ours, scipy.linalg.cho_solve(inverse, x.T).T)

    right = np.einsum("dor,odn->rn", f, wanted)
    rest = right - apply(v)
    direction = z = precondition(rest)
    size = float(np.vdot(rest, z))
    for _ in range(steps):
        if size <= 0:
            break
        image = apply(direction)
        bend = float(np.vdot(direction, image))
        if bend <= 0:
            break
        v = v + size / bend * direction
        rest = rest - size / bend * image
        z = precondition(rest)
        size, last = float(np.vdot(rest, z)), size
        direction = z + size / last * direction
    return v


def _narrow(f: Floats, v: Floats, h: Floats, rank: int) -> tuple[Floats, Floats]:
    """F as U C, nearest in what it makes of the features of V. Shapes: (d, o, r) -> (o, k), (d, k, r)."""
    slots, outputs, inner = f.shape
    seen = np.matmul(np.matmul(v, h.reshape(slots, h.shape[1], -1)).reshape(slots, inner, slots, -1), v.T)
    flat = f.transpose(1, 0, 2).reshape(outputs, -1)
    u = _leading(flat @ seen.reshape(slots * inner, -1) @ flat.T, rank)
    return u, np.matmul(u.T, f)


def _leading(gram: Floats, rank: int) -> Floats:
    """Leading eigenvectors, signs fixed. Shapes: (n, n) -> (n, r)."""
    size = len(gram)
    gram = (gram + gram.T) / 2
    vectors = scipy.linalg.eigh(gram, subset_by_index=(size - rank, size - 1), check_finite=False)[1][:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(rank)])
    return np.asarray(vectors * np.where(signs == 0, 1.0, signs))


def _orthonormal(v: Floats, metric: Floats) -> Floats:
    gram = v @ metric @ v.T
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    keep = np.maximum(values, _TINY * max(values[-1], 1e-30))
    return np.asarray((vectors / np.sqrt(keep)).T @ v)


def _positive_solve(gram: Floats, right: Floats) -> Floats:
    damp = _TINY * max(float(np.trace(gram)) / len(gram), 1e-30)
    return scipy.linalg.cho_solve(
        scipy.linalg.cho_factor(gram + damp * np.eye(len(gram)), lower=True, check_finite=False), right
    )
