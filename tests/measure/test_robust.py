"""Which answers a second model changes, by class: counted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.measure.data.source import Batch
from intaglio.measure.robust import Forgotten

RNG = np.random.default_rng(4)


def told(old: np.ndarray, new: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found = Forgotten()
    for part in (slice(0, 33), slice(33, None)):
        found.add(Batch({}, len(labels[part]), labels[part]), {"y": old[part]}, {"y": new[part]})
    return found.as_dict()


def test_every_answer_is_counted_once() -> None:
    labels = RNG.integers(0, 4, 100)
    old, new = (np.eye(5)[labels] + RNG.normal(0, scale, (100, 5)) for scale in (0.4, 0.8))
    found = told(old, new, labels)
    for one in (found, *found["classes"]):
        of = range(100) if one is found else [i for i in range(100) if labels[i] == one["label"]]
        right = [[max(range(5), key=lambda k: side[i][k]) == labels[i] for i in of] for side in (old, new)]
        assert one["lost"] == sum(a and not b for a, b in zip(*right, strict=True))
        assert one["won"] == sum(b and not a for a, b in zip(*right, strict=True))
        assert one["changed"] == sum(old[i].argmax() != new[i].argmax() for i in of)
        assert one["points"] == np.float64(100 * (one["lost"] - one["won"]) / len(of))
        for side, scores in (("before", old), ("after", new)):
            margins = [scores[i][labels[i]] - max(np.delete(scores[i], labels[i])) for i in of]
            assert abs(one[side]["margin"] - np.mean(margins)) < 1e-12
    classes = found["classes"]
    assert [one["points"] for one in classes] == sorted((one["points"] for one in classes), reverse=True)
    assert len(found["lost_samples"]) == found["lost"]


def test_a_class_that_is_forgotten_stands_first_and_chance_is_not_clear() -> None:
    labels = np.repeat([0, 1, 2], 30)
    old, new = np.eye(3)[labels], np.eye(3)[labels]
    new[labels == 1] = [1, 0.5, 0]
    new[0] = [0, 1, 0]
    found = told(old, new, labels)
    first, second, _ = found["classes"]
    assert (first["label"], first["lost"], first["clear"]) == (1, 30, True)
    assert (second["label"], second["lost"], second["clear"]) == (0, 1, False)
    assert found["lost_samples"] == [0, *range(30, 60)]
