"""Tickets that models of different classes agree on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..method import METHODS
from .imp import Rounds, Tickets

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student
    from ...losses.loss import Answers


@METHODS.register("colt", options=Rounds)
class OverlappingTickets(Tickets):
    """In each round one half of the classes is learned, then the other, from the same weights: what both keep stays.

    Source: Hossain et al., COLT, 2022, arXiv:2212.12770.
    """

    parts_a_round = 2

    def start(self, student: Student) -> None:
        super().start(student)
        for name in self.weights(student):
            student.add(f"first/{name}", student.masks[name].clone())

    def chosen(self, student: Student, part: int) -> dict[str, Tensor]:
        found = self.largest(student)
        if part % 2 == 0:
            for name, mask in found.items():
                student.own[f"first/{name}"].copy_(mask)
            return {}
        return {name: mask & student.own[f"first/{name}"] for name, mask in found.items()}

    def judged(self, answers: Answers, progress: float) -> Answers:
        part = int(progress * self._parts)
        if part == self._parts - 1 or answers.scores is None:
            return answers
        classes = answers.labels
        if classes is None:
            classes = (answers.teacher or answers.outputs)[answers.scores].flatten(1).argmax(1)
        number = answers.outputs[answers.scores].flatten(1).shape[1]
        rows = (classes < number // 2) == (part % 2 == 0)
        if not rows.any():
            return answers
        ours, theirs = ({n: v[rows] for n, v in each.items()} for each in (answers.outputs, answers.teacher))
        labels = None if answers.labels is None else answers.labels[rows]
        return replace(answers, outputs=ours, teacher=theirs, labels=labels)
