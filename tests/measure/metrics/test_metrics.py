"""Metrics of numbers and text against what others compute, and how their losses read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.errors import BadData, UsageError
from intaglio.measure.accuracy import METRICS, Evaluation, Metric
from intaglio.measure.paired import bootstrap, drops
from intaglio.measure.worth import Worth

RNG = np.random.default_rng(11)


def measured(spec: str, outputs: np.ndarray | Mapping[str, np.ndarray], labels: np.ndarray) -> float:
    """In two batches of unequal size."""
    metric, named = METRICS[spec](), outputs if isinstance(outputs, Mapping) else {"y": outputs}
    for part in (slice(0, 2), slice(2, None)):
        metric.add({name: value[part] for name, value in named.items()}, labels[part])
    return metric.result()


def test_of_numbers() -> None:
    given = RNG.normal(size=(7, 3, 4, 4)).astype(np.float32)
    wanted = given + RNG.normal(size=given.shape).astype(np.float32)
    gap = np.square(given.astype(np.float64) - wanted)
    assert measured("mse", given, wanted) == pytest.approx(gap.mean())
    each = gap.reshape(7, -1).mean(axis=1)
    assert measured("psnr:peak=2", given, wanted) == pytest.approx((10 * np.log10(4 / each)).mean())
    pixels = (wanted * 50).astype(np.int64)
    each = np.square(given.astype(np.float64) - pixels).reshape(7, -1).mean(axis=1)
    assert measured("psnr", given, pixels) == pytest.approx((10 * np.log10(255**2 / each)).mean())
    assert measured("psnr", given, given) == math.inf
    angles = [
        float(a.ravel() @ b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(given, wanted, strict=True)
    ]
    assert measured("cosine", given, wanted) == pytest.approx(np.mean(angles), abs=1e-6)
    assert measured("cosine", np.zeros((3, 2)), np.array([[0, 0], [0, 0], [1, 0]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_f1_is_that_of_scikit_learn(average: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    scores, labels = RNG.normal(size=(40, 6)), RNG.integers(0, 4, 40)
    expected = metrics.f1_score(labels, scores.argmax(axis=1), average=average)
    assert measured(f"f1:average={average}", scores, labels) == pytest.approx(expected)
    pixels, places = RNG.normal(size=(5, 3, 4, 4)), RNG.integers(0, 3, (5, 4, 4))
    expected = metrics.f1_score(places.ravel(), pixels.argmax(axis=1).ravel(), average=average)
    assert measured(f"f1:average={average}", pixels, places) == pytest.approx(expected)
    several = RNG.integers(0, 2, (40, 6))
    expected = metrics.f1_score(several, scores > 0.2, average=average)
    assert measured(f"f1:average={average},threshold=0.2", scores, several) == pytest.approx(expected)


def test_perplexity_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    logits, tokens = RNG.normal(size=(5, 9, 20)).astype(np.float32) * 3, RNG.integers(0, 20, (5, 9))
    tokens[1, 4:] = -100
    loss = torch.nn.functional.cross_entropy
    expected = float(loss(torch.tensor(logits).reshape(-1, 20), torch.tensor(tokens).reshape(-1)).exp())
    assert measured("perplexity", logits, tokens) == pytest.approx(expected, rel=1e-5)
    likely = torch.softmax(torch.tensor(logits), -1).numpy()
    assert measured("perplexity", likely, tokens) == pytest.approx(expected, rel=1e-5)
    moved = loss(torch.tensor(logits[:, :-1]).reshape(-1, 20), torch.tensor(tokens[:, 1:]).reshape(-1)).exp()
    assert measured("perplexity:shift=true", logits, tokens) == pytest.approx(float(moved), rel=1e-5)


def spoken(rows: list[list[int]], tokens: int = 5) -> np.ndarray:
    return np.eye(tokens, dtype=np.float32)[np.array(rows)]


def test_words_are_decoded_and_counted() -> None:
    heard = spoken([[1, 1, 0, 1, 2, 0], [3, 3, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]])  # 1 1 2, 3, nothing
    said = np.array([[1, 2, -1], [3, 4, -1], [1, -1, -1]])
    assert measured("wer", heard, said) == pytest.approx((1 + 1 + 1) / 5)
    assert measured("wer", np.array([[1, 1, 2], [3, -1, -1], [-1, -1, -1]]), said) == pytest.approx(3 / 5)
    parted = np.array([[1, 2, 4, 3, -1], [1, 4, 4, 2, 3], [3, -1, -1, -1, -1]])  # ab c, a bc, c
    as_said = np.array([[1, 2, 4, 3, -1], [1, 4, 3, 3, -1], [3, 4, 1, -1, -1]])
    assert measured("wer:separator=4", parted, as_said) == pytest.approx((0 + 1 + 1) / 6)


def test_words_may_be_texts(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("-\na\nb\nc\n|\n")
    heard = spoken([[1, 2, 0, 2, 4, 3], [1, 4, 2, 3, 3, 0], [3, 3, 3, 3, 3, 3]])
    said = np.array(["abb c", "a cc", "c a"])
    assert measured(f"wer:separator=4,vocabulary={tmp_path / 'vocabulary.txt'}", heard, said) == pytest.approx(2 / 6)
    with pytest.raises(BadData, match="no token numbers; of texts name a vocabulary"):
        METRICS["wer"]().add({"y": heard}, said)
    with pytest.raises(UsageError, match="cannot read the vocabulary"):
        METRICS["wer:vocabulary=none.txt"]()


def test_an_output_is_found_by_its_shape_or_named() -> None:
    outputs = {"a": RNG.normal(size=(4, 3)), "b": RNG.normal(size=(4, 3)), "c": RNG.normal(size=(4, 8))}
    labels = outputs["b"] + 1
    assert measured("mse:output=b", outputs, labels) == pytest.approx(1)
    assert measured("mse", outputs, outputs["c"]) == 0
    with pytest.raises(UsageError, match="several outputs could be"):
        METRICS["mse"]().add(outputs, labels)
    with pytest.raises(UsageError, match="there is no output 'z'"):
        METRICS["mse:output=z"]().add(outputs, labels)
    with pytest.raises(BadData, match="no output has numbers of the labels' shape"):
        METRICS["mse"]().add(outputs, np.zeros((4, 9)))


def evaluation(metric: Metric, spec: str) -> Evaluation:
    parts = {spec: metric.parts()} if hasattr(metric, "parts") else {}
    scores = {spec: metric.scores()} if hasattr(metric, "scores") else {}
    return Evaluation(50, {spec: metric.result()}, 0.0, scores, parts, {spec: Worth.of(metric)})


@pytest.mark.parametrize(
    ("spec", "unit", "worse"),
    [("mse", "%", 3.0), ("psnr", "%", 0.5), ("cosine", "points", 0.0), ("perplexity", "%", 3.0)],
)
def test_a_worse_model_loses_whichever_way_its_numbers_go(spec: str, unit: str, worse: float) -> None:
    rng = np.random.default_rng(5)
    wanted = rng.normal(size=(50, 8, 6)) if spec != "perplexity" else rng.integers(0, 6, (50, 8))
    right = wanted if spec != "perplexity" else 4 * np.eye(6)[wanted]
    sides = []
    for noise in (1.0, 2.0):
        metric = METRICS[spec]()
        metric.add({"y": right + noise * rng.normal(size=right.shape)}, wanted)
        sides.append(evaluation(metric, spec))
    drop = drops(*sides)[spec]
    assert drop.unit == unit
    assert 0 < drop.low <= drop.points <= drop.high
    assert drop.clear
    before, after = (one.values[spec] for one in sides)
    change = abs(after - before) * 100 / (1 if unit == "points" else abs(before))
    assert drop.points == pytest.approx(change)
    assert drops(*reversed(sides))[spec].points < 0


def test_losses_of_what_is_no_number_are_all_there_is() -> None:
    assert Worth(smaller=True, share=False).lost(2.0, 3.0) == 50
    assert Worth(smaller=True, share=False).lost(0.0, 0.0) == 0
    assert Worth(smaller=True, share=False).lost(0.0, 1e-9) == math.inf
    assert Worth(share=False).lost(math.inf, math.inf) == 0
    assert Worth(share=False).lost(math.inf, 80.0) == math.inf
    assert Worth().lost(0.5, math.nan) == math.inf


def test_the_interval_of_a_quotient_holds_the_truth() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(100):
        words = rng.integers(3, 9, 120).astype(np.float64)
        old, new = (np.column_stack([rng.binomial(words.astype(int), p), words]) for p in (0.1, 0.2))
        drop = bootstrap(old, new, Worth(smaller=True))
        held += drop.low <= 10 <= drop.high
    assert held >= 88
