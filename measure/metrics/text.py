"""Metrics of text: how well the next token is foreseen, and how many words are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from ...graph.errors import BadData, UsageError
from ..accuracy import METRICS
from .named import Output, chosen

_ONE = 1e-3


class Shifted(Output):
    """Options of ``perplexity``."""

    shift: bool = Field(
        default=False, description="labels are the input's own tokens: scores at a place are of the token after it"
    )


@METRICS.register("perplexity", options=Shifted, needs=("tokens",))
class Perplexity:
    """e to the mean negative log-likelihood of a token; smaller is better.

    Scores are (samples, places, tokens), logits or probabilities, labels (samples, places); those below 0 do not count.
    """

    smaller_is_better, share, exponential = True, False, True

    def __init__(self, options: Shifted) -> None:
        self.options, self._parts = options, [np.zeros((0, 2))]

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        what = f"scores of tokens, {(*labels.shape, 'tokens')}".replace("'", "")
        scores = chosen(outputs, self.options.output, lambda one: one.shape[:-1] == labels.shape, what)
        if labels.dtype.kind not in "iu" or (labels.size and labels.max() >= scores.shape[-1]):
            why = f"they are {labels.dtype} up to {labels.max()}, and there are scores of {scores.shape[-1]} tokens"
            raise BadData("the labels are no token numbers", why=why)
        scores, labels = scores.reshape(len(labels), -1, scores.shape[-1]), labels.reshape(len(labels), -1)
        if self.options.shift:
            scores, labels = scores[:, :-1], labels[:, 1:]
        counted = labels >= 0
        likely = [_log_likelihood(*pair) for pair in zip(scores, np.maximum(labels, 0), strict=True)]
        self._parts.append(np.stack([-np.where(counted, likely, 0).sum(axis=1), counted.sum(axis=1)], axis=1))

    def parts(self) -> np.ndarray:
        """Of each sample the sum and the number of its tokens. Shapes: (samples, 2)."""
        return np.concatenate(self._parts)

    def result(self) -> float:
        total, count = self.parts().sum(axis=0)
        with np.errstate(over="ignore"):
            return float(np.exp(total / count)) if count else float("nan")


def _log_likelihood(scores: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Shapes: scores (places, tokens), tokens and the result (places,)."""
    exact = scores.astype(np.float64)
    own = np.take_along_axis(exact, tokens[:, None].astype(np.int64), axis=1)[:, 0]
    if exact.size and exact.min() >= 0 and np.abs(exact.sum(axis=1) - 1).max() < _ONE:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(own))
    top = exact.max(axis=1)
    return np.asarray(own - top - np.log(np.exp(exact - top[:, None]).sum(axis=1)))


class Words(Output):
    """Options of ``wer``."""

    blank: int = Field(default=0, ge=0, description="the token that CTC puts between others; scores only")
    separator: int | None = Field(
        default=None, ge=0, description="the token that parts words; without it every token is a word"
    )
    vocabulary: str = Field(
        default="", description="a file with a token in each line: then labels are texts, words parted by spaces"
    )


@METRICS.register("wer", options=Words, needs=("tokens",))
class WordErrorRate:
    """Words that are wrong, missing or too many, as a part of the words there are; smaller is better.

    Scores (samples, places, tokens) are decoded greedily as CTC does: the best token of each place, repeated ones once,
    without blanks. An output of token numbers (samples, places) is taken as it is, those below 0 left out, as in labels.

    Source: Graves et al., "Connectionist Temporal Classification", ICML 2006, best path decoding.
    """

    smaller_is_better = True

    def __init__(self, options: Words) -> None:
        self.options, self._parts = options, list[tuple[int, int]]()
        self._tokens = _read(options.vocabulary) if options.vocabulary else None

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        given = chosen(outputs, self.options.output, _spoken, "scores or numbers of tokens, (samples, places, tokens)")
        if labels.dtype.kind not in ("U" if self._tokens else "iu"):
            wanted = "texts" if self._tokens else "token numbers; of texts name a vocabulary: wer:vocabulary=FILE"
            raise BadData(f"the labels are no {wanted}", why=f"they are {labels.dtype}")
        for row, label in zip(given, labels, strict=True):
            heard = self._words(self._decoded(row))
            said = str(label).split() if self._tokens else self._words(label[label >= 0].tolist())
            self._parts.append((_edits(heard, said), len(said)))

    def _decoded(self, row: np.ndarray) -> list[int]:
        if row.ndim == 1:
            return [token for token in row.tolist() if token >= 0]
        best = row.argmax(axis=1)
        fresh = np.concatenate([[True], best[1:] != best[:-1]]) if len(best) else np.zeros(0, bool)
        return [token for token in best[fresh].tolist() if token != self.options.blank]

    def _words(self, tokens: list[int]) -> list[object]:
        """Tuples of tokens, or texts."""
        parts = list(_parted(tokens, self.options.separator))
        if self._tokens is None:
            return [tuple(one) for one in parts]
        texts = ["".join(self._tokens[token] for token in one if token < len(self._tokens)) for one in parts]
        return [*("" if self.options.separator is None else " ").join(texts).split()]

    def parts(self) -> np.ndarray:
        """Of each sample errors and words. Shapes: (samples, 2)."""
        return np.array(self._parts, np.float64).reshape(-1, 2)

    def result(self) -> float:
        errors, words = self.parts().sum(axis=0)
        return float(errors / words) if words else float("nan")


def _spoken(output: np.ndarray) -> bool:
    return output.ndim == 3 if output.dtype.kind == "f" else output.dtype.kind in "iu" and output.ndim == 2


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the vocabulary {path}", why=str(error)) from error


def _parted(tokens: Sequence[int], separator: int | None) -> Iterator[list[int]]:
    if separator is None:
        yield from ([one] for one in tokens)
        return
    word: list[int] = []
    for token in [*tokens, separator]:
        if token != separator:
            word.append(token)
        elif word:
            yield word
            word = []


def _edits(given: Sequence[object], wanted: Sequence[object]) -> int:
    """The fewest words to change, leave out or put in.

    Source: Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966.
    """
    row = list(range(len(wanted) + 1))
    for done, word in enumerate(given, 1):
        before, row[0] = row[0], done
        for place, other in enumerate(wanted, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]
