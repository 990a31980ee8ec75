"""Every published binary operator in the table, as its authors write it in PyTorch, is computed with the operators named there."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.proof import prove
from intaglio.passes.binarize.trained.recognize import recognize
from tests.passes.binarize.trained.published import MAPPINGS

torch = pytest.importorskip("torch")
import onnx  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

CHANNELS = 24


def sgn(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` forwards, the gradient of ``soft`` backwards."""
    return hard.detach() - soft.detach() + soft


def mean_size(w: Tensor) -> Tensor:
    return w.abs().mean(dim=(1, 2, 3), keepdim=True)


class BinaryConv(nn.Module):
    """A convolution whose input and weights go through functions of their own."""

    def __init__(self, activation: Callable[[Tensor], Tensor], weight: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 3, 3))
        self._activation, self._weight = activation, weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self._activation(x), self._weight(self.weight), padding=1)


class Bnn(nn.Module):
    """Two layers, so that the bits of one come from the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            BinaryConv(lambda x: through(sgn(x), F.hardtanh(x)), lambda w: through(sgn(w), F.hardtanh(w)))
            for _ in range(2)
        )
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.hardtanh(self.norm(self.first(x))))


class Xnor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv(
            lambda x: sgn(x) * x.abs().mean(dim=(1, 2, 3), keepdim=True), lambda w: sgn(w) * mean_size(w)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class DoReFa(nn.Module):
    """Activations of one bit are 0 and 1; one scale for all weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv(self.rounded, lambda w: sgn(w) * w.abs().mean())
        self.norm = nn.BatchNorm2d(CHANNELS)

    @staticmethod
    def rounded(x: Tensor) -> Tensor:
        near = x.clamp(0, 1)
        return through(torch.round(near), near)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def polynomial(x: Tensor) -> Tensor:
    """Whose slope is Bi-Real's gradient of the sign."""
    left, right = (x * x + 2 * x) * (x < 0).float(), (2 * x - x * x) * (x >= 0).float()
    return (left + right).clamp(-1, 1)


class BiReal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv(
            lambda x: through(sgn(x), polynomial(x)), lambda w: through(sgn(w) * mean_size(w), w.clamp(-1, 1))
        )
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + x


class React(nn.Module):
    """RSign, and RPReLU behind the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.tau, self.gamma, self.zeta = (nn.Parameter(torch.randn(1, CHANNELS, 1, 1)) for _ in range(3))
        self.slope = nn.Parameter(torch.rand(CHANNELS))
        self.conv = BinaryConv(
            lambda x: through(sgn(x), polynomial(x)), lambda w: through(sgn(w) * mean_size(w), w.clamp(-1, 1))
        )
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x + self.tau)) + x
        return F.prelu(y - self.gamma, self.slope) + self.zeta


class ReCU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(CHANNELS, 1, 1) + 0.5)
        self.conv = BinaryConv(sgn, self.standardized)

    @staticmethod
    def standardized(w: Tensor) -> Tensor:
        centred = w - w.mean(dim=(1, 2, 3), keepdim=True)
        unit = centred * 2 * math.sqrt(2) / (centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-5)
        limit = -math.log(2 - 2 * 0.99) * mean_size(unit)
        clipped = torch.minimum(torch.maximum(unit, -limit), limit)
        return through(sgn(clipped), clipped)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.alpha


class Fda(nn.Module):
    """The sign, with the gradient of the first terms of its Fourier series."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv(lambda x: through(sgn(x), self.series(x)), lambda w: through(sgn(w), self.series(w)))
        self.norm = nn.BatchNorm2d(CHANNELS)

    @staticmethod
    def series(x: Tensor) -> Tensor:
        terms = [torch.sin((2 * i + 1) * 0.1 * x) / (2 * i + 1) for i in range(4)]
        return 4 / math.pi * torch.stack(terms).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bnn": Bnn,
    "xnor": Xnor,
    "dorefa": DoReFa,
    "bireal": BiReal,
    "react": React,
    "recu": ReCU,
    "fda": Fda,
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, shift in ((norm.weight, 0.0), (norm.bias, 0.0), (norm.running_mean, 0.0)):
                assert values is not None
                nn.init.normal_(values, shift)
    return made.eval()


def exported(module: nn.Module, *, dynamo: bool) -> Model:
    file = io.BytesIO()
    image = torch.zeros(2, CHANNELS, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, (image,), input_names=["x"], dynamo=True, verbose=False)
            assert program is not None
            return from_proto(program.model_proto)
        axes = {"x": {0: "N"}}
        torch.onnx.export(module, (image,), file, input_names=["x"], dynamic_axes=axes, dynamo=False, opset_version=17)
    return from_proto(onnx.load_from_string(file.getvalue()))


def test_every_operator_of_the_table_has_a_network() -> None:
    assert sorted(NETWORKS) == sorted(MAPPINGS)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_training_code_exports_is_computed_with_the_operators_of_the_table(name: str, dynamo: bool) -> None:
    module = network(name)
    model = exported(module, dynamo=dynamo)
    found = recognize(model)
    lowered = lower(found)
    x = torch.randn(2, CHANNELS, 9, 9, generator=torch.Generator().manual_seed(1))
    prove(found, lowered, [{"x": x.numpy()}])
    with torch.no_grad():
        expected = module(x).numpy()
    (made,) = run(open_session(lowered.model), {"x": x.numpy()}).values()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-4)
    operators = [n.op_type for n in lowered.model.graph.node]
    rest = iter(operators)
    assert all(op in rest for op in MAPPINGS[name].operators), operators
    assert not {"Conv", "Where", "Sign", "BatchNormalization"} & {*operators}, operators
