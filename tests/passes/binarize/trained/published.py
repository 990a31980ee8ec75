"""What each published way to binarize a network becomes when it is computed.

The operators differ in how they are trained; what is left of them at inference is little. ``MAPPINGS`` says for each what
its forward pass is, and which operators on bits compute it. The tests hold the table to that: every entry is written as a
PyTorch module, exported, recognized, and computed with exactly these operators.
"""

from __future__ import annotations

from dataclasses import dataclass

MAPPINGS: dict[str, Mapping] = {}


@dataclass(frozen=True)
class Mapping:
    """``activations`` and ``weights`` are the forward pass, sgn(0) = +1, s a scale and s_o one for each filter; ``beside`` what else is computed at inference.

    ``operators`` are those that a layer of it consists of, in order. ``folded`` says where parameters go.
    """

    activations: str
    weights: str
    operators: tuple[str, ...]
    folded: str
    source: str
    beside: str = ""


def _add(name: str, *about: str, operators: tuple[str, ...] = ("BitPack", "BConv"), beside: str = "") -> None:
    activations, weights, folded, source = about
    MAPPINGS[name] = Mapping(activations, weights, operators, folded, source, beside)


_add(
    "bnn",
    "sgn(x)",
    "sgn(w)",
    "BatchNormalization, Hardtanh and the next sgn become the integer threshold of the layer before",
    "Hubara et al., Binarized Neural Networks, NeurIPS 2016, arXiv:1602.02830",
    operators=("BitPack", "BConvBits", "BConv"),
)
_add(
    "xnor",
    "β sgn(x), β = mean |x| of the sample, or a map K of it for each pixel",
    "s_o sgn(w), s_o = mean |w| of the filter",
    "s_o joins the scale; β is a factor behind the layer",
    "Rastegari et al., XNOR-Net, ECCV 2016, arXiv:1603.05279",
    operators=("BitPack", "BConv", "Mul"),
    beside="mean |x| and a multiplication, in floats",
)
_add(
    "dorefa",
    "sgn(x), or 0 and 1: (sgn(x - 1/2) + 1) / 2",
    "s sgn(w), one s for the layer or each filter",
    "s joins the scale; what 0 and 1 differ from signs joins the shift; padding with 0 becomes padding with -1",
    "Zhou et al., DoReFa-Net, 2016, arXiv:1606.06160",
)
_add(
    "bireal",
    "sgn(x), the shortcut x stays float",
    "s_o sgn(w)",
    "s_o and BatchNormalization join the scale and the shift",
    "Liu et al., Bi-Real Net, ECCV 2018, arXiv:1808.00278",
    beside="the addition of the shortcut",
)
_add(
    "react",
    "sgn(x + τ_c), τ learned for each channel (RSign)",
    "s_o sgn(w)",
    "τ becomes the threshold of BitPack; s_o and BatchNormalization join the scale and the shift",
    "Liu et al., ReActNet, ECCV 2020, arXiv:2003.03488",
    beside="the shortcut, and RPReLU as its shifts and a PRelu",
)
_add(
    "recu",
    "sgn(x); x is divided by its deviation in training only",
    "s_o sgn(clip((w - mean w) / deviation, ±Q)): the signs of w - mean w; s_o learned",
    "the standardized weights are constants, so that only their signs are left; s_o joins the scale",
    "Xu et al., ReCU, ICCV 2021, arXiv:2103.12369",
)
_add(
    "fda",
    "sgn(x); the noise branch has faded out when training ends",
    "s_o sgn(w)",
    "its Fourier series is a gradient and leaves nothing behind; s_o joins the scale",
    "Xu et al., Learning Frequency Domain Approximation for Binary Neural Networks, NeurIPS 2021, arXiv:2103.00841",
)
