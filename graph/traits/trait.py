"""The facts that are told of operators, each with its meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto, unique


class Trait(Flag):
    """What can be true of an operator.

    ``f`` is what it makes of its data, ``x``: the first output as a function of the operands that ``Operator.data``
    names, all at once, whatever the other operands and the attributes say. Numbers are real unless a trait says
    otherwise. A trait that an operator lacks does not hold, or not always.
    """

    ELEMENTWISE = auto()
    """Each number of f(x) is the same function of the numbers in its own place. Operands may be stretched to one shape;
    further operands may be scalars, or lend an element type."""
    BROADCASTS = auto()
    """ELEMENTWISE in all its operands, which stretch as in NumPy (before operator set 7 as an attribute says)."""
    PER_CHANNEL = auto()
    """Each number of f(x) depends on the number in its place, and on the entries for its channel in vectors: at
    inference."""
    BITWISE = auto()
    """ELEMENTWISE on truth values or on the bits of integers, not on numbers."""
    SAME_SHAPE = auto()
    """The first output has the shape and the element type of the first operand."""
    SHAPE_ONLY = auto()
    """Reads the shape of its operand: neither values nor the element type matter."""

    MOVES = auto()
    """Moves numbers and makes none: f(g(x)) = g(f(x)) for every function g of one number."""
    FILLS = auto()
    """MOVES, and puts one constant beside: so for every g that keeps the constant."""
    SELECTS = auto()
    """Compares numbers and hands on some of them: f(g(x)) = g(f(x)) for every rising g."""
    SAMPLES = auto()
    """MOVES where ``mode`` is nearest, interpolates where it is anything else."""
    IDLE = auto()
    """f(x) = x at inference."""

    HOMOGENEOUS = auto()
    """f(t x) = t f(x) for t > 0."""
    SHIFTS = auto()
    """f(x + c) = f(x) + c for a number c, where nothing is padded."""
    RISING = auto()
    """f(x) ≤ f(y) in every place if x ≤ y in every place, as far as f is defined."""
    FALLING = auto()
    """f(x) ≥ f(y) in every place if x ≤ y in every place, as far as f is defined."""
    IN_ORDER = auto()
    """RISING or FALLING for all numbers, in floating point too: each step is rounded correctly, which keeps order."""
    POLYNOMIAL = auto()
    """Each number of f(x) is a polynomial in the numbers of x, the same for all of them: whatever lacks it may saturate,
    so that what agrees for many x need not agree for all."""
    RECTIFIES = auto()
    """f(x) = x between two limits, beyond them the limit: what a saturating conversion does by itself."""
    PROBABILITIES = auto()
    """Turns scores into (logarithms of) probabilities, so that its input tells more than its output."""
    DIVIDES = auto()
    """The last operand divides: integers have no result where it is 0."""

    REDUCES = auto()
    """Takes together the axes that operand 1, or the attribute ``axes``, names."""
    POOLS = auto()
    """Takes windows together, along all axes but the first two."""
    SUMS = auto()
    """Adds along axes, so that an index that holds zeros may as well not be there."""
    NORMALIZES = auto()
    """Divides by a deviation that it finds in x; operand 1 is a scale and operand 2 a shift along ``channels``."""
    STANDARDIZES = auto()
    """Makes channels whose mean is operand 2 and whose deviation is the size of operand 1."""

    LAYER = auto()
    """Multiplies rows of its input by a matrix of weights and adds a bias: y = rows Wᵀ + b."""
    CONVOLVES = auto()
    """Slides a kernel along all axes but the first two and sums over channels."""
    MULTIPLIES = auto()
    """A product of matrices or tensors."""
    RECURRENT = auto()
    """Steps through time with a hidden state. Operands: X, W, R, B, lengths, first states."""

    RANDOM = auto()
    """Draws random numbers: two runs differ."""
    BODIES = auto()
    """Holds graphs, which run inside it and may read tensors from outside."""

    QUANTIZES = auto()
    """Converts between floats and integers with a scale."""
    INTEGER = auto()
    """Computes with quantized integers."""
    INTEGER_WEIGHTS = auto()
    """Multiplies by weights that are integers, or looks them up: it was quantized before."""
    ON_BITS = auto()
    """Computes with signs packed in bytes."""
    ON_INTEGERS = auto()
    """MOVES or FILLS; ONNX Runtime does not take the conversions around it away, so it is written between integers."""
    DYNAMIC_KERNEL = auto()
    """ONNX Runtime on CPU can quantize its input while it runs and multiply integers."""
    BLOCK_KERNEL = auto()
    """ONNX Runtime has an operator of its own for it that reads weights in blocks, each with a scale."""


NONE = Trait(0)


class Runtime(Flag):
    """What can run a model, in whose terms ``Operator.integer`` and ``Operator.float_out`` speak. Sources and dates:
    docs/targets.md."""

    ORT = auto()
    """ONNX Runtime on CPU: no conversion is left around the operator. Softmax, Where, GatherElements and ReduceMax have
    integer kernels too; quantization leaves them."""
    OPENVINO = auto()
    """OpenVINO on CPU, unsigned activations: a kernel of its own reads and writes 8 bits. What it computes in floats between
    8 bits, in generated code, or at the end of the layer in front, does not count."""
    TENSORRT = auto()
    """TensorRT: NVIDIA's documents name it among what is quantized, or moved through."""
    LITERT = auto()
    """LiteRT and TFLite Micro, which run TFLite files: a kernel of signed 8 bits that such a file names."""


NOWHERE = Runtime(0)
EVERYWHERE = Runtime.ORT | Runtime.OPENVINO | Runtime.TENSORRT
"""All that read ONNX files."""


@unique
class Role(Enum):
    """What the integers of an operand mean."""

    INDICES = "indices along the attribute ``axis`` of operand 0"
    POSITIONS = "indices along several axes of operand 0 at once"
    SHAPE = "lengths of axes"
    COUNTS = "how many: repeats, parts, steps of sequences"
    EXTENTS = "bounds, borders and scales, floats too, that lengths follow from"
    AXES = "numbers of axes of operand 0"


@dataclass(frozen=True)
class Operator:
    """One operator.

    ``data`` are the operands that ``Trait`` speaks of, None for all. ``channels`` is the axis of operand 0 that channels
    stand on. ``weights`` are the operands where float weights stand, the usual place first, and ``bias`` is the operand
    with one number for each output channel. ``bounds`` are those of the first output. ``saturation`` gives, of the
    operands behind the first and the attributes, the limits up to which, and from which on, all numbers come out alike.
    ``gates`` is how many blocks the weights of a recurrent layer have.

    ``codes`` are the operands that hold integers in place of floats, ``scales`` those that only say how integers are
    scaled; ``code_bits`` is how many bits a number has, unless the node says so, where a byte holds several. ``roles``
    tells of operands that hold integers of another kind, ``deciding`` are single numbers that say what runs. ``changed`` is the operator set that gave it another meaning
    while onnx's version converter passes it on as it is, 0 where there is none. ``since`` is the first release of ONNX
    Runtime that has it for integers of so many bits, where that is not the first that is still of interest.

    The runtimes in ``integer`` compute it in integers where it stands between DequantizeLinear and QuantizeLinear, for some
    attributes at least; those in ``float_out`` can make floats of integers there, and need no QuantizeLinear behind it.

    ``caches`` are operands that hold what earlier runs made, by the output that holds it with what is new.

    Outside the standard domain, the first output has the shape that the standard operator ``like`` makes of the operands
    ``like_of``, or of every third from there on if that is negative; and the element type of the first operand of
    ``typed`` that is there.
    """

    traits: Trait = NONE
    data: tuple[int, ...] | None = (0,)
    channels: int | None = None
    weights: tuple[int, ...] = ()
    bias: int | None = None
    bounds: tuple[float, float] | None = None
    saturation: Callable[..., tuple[float, float] | None] | None = None
    gates: int = 0
    codes: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    code_bits: int | None = None
    roles: Mapping[int, Role] = field(default_factory=dict)
    deciding: tuple[int, ...] = ()
    changed: int = 0
    since: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    integer: Runtime = NOWHERE
    float_out: Runtime = NOWHERE
    caches: Mapping[int, int] = field(default_factory=dict)
    like: str = ""
    like_of: tuple[int, ...] = (0,)
    typed: tuple[int, ...] = (0,)

    @property
    def weight(self) -> int:
        """The usual place of the weight, in floats or in integers."""
        return (*self.weights, *self.codes)[0]

    def is_data(self, position: int) -> bool:
        """Whether an operand is one that the traits speak of."""
        return self.data is None or position in self.data
