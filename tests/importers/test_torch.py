"""PyTorch's modules and files become the graph that they are, and nothing in them is unpickled."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from intaglio.graph.errors import BadModel, UsageError
from intaglio.graph.io.safetensors import to_bytes
from intaglio.graph.lazy import imported
from intaglio.pipeline.importing import Read, read_model, read_source

from . import networks

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
SHAPE = {"image": [-1, 3, 16, 16]}


class Hostile:
    """Would say that it was unpickled."""

    def __reduce__(self) -> Any:
        return (exit, (99,))


@pytest.fixture
def _factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def operators(read: Read) -> list[str]:
    return [node.op_type for node in read.model.graph.node]


@pytest.mark.usefixtures("_factory")
def test_normalizations_stay_unless_they_are_to_be_folded() -> None:
    kept, folded = (
        read_source("networks:in_torch", shapes=SHAPE, by={"name": "", **how}) for how in ({}, {"fold_bn": "yes"})
    )
    assert operators(kept).count("BatchNormalization") == 2
    assert "BatchNormalization" not in operators(folded)
    assert kept.outputs["output"].sqnr_db > 100
    assert folded.outputs["output"].sqnr_db > 100


@pytest.mark.usefixtures("_factory")
def test_the_batch_stays_free(tmp_path: Path) -> None:
    from intaglio import save

    save(read_model("networks:in_torch", shapes=SHAPE), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for count in (1, 5):
        x = np.random.default_rng(count).normal(size=(count, 3, 16, 16)).astype(np.float32)
        wanted = networks.in_torch().eval()(torch.from_numpy(x)).detach().numpy()
        assert np.abs(session.run(None, {"image": x})[0] - wanted).max() < 1e-5


@pytest.mark.usefixtures("_factory")
def test_without_shapes_the_error_tells_how_to_give_them() -> None:
    with pytest.raises(UsageError, match="shapes") as caught:
        read_source("networks:in_torch")
    assert "--shape input:" in caught.value.fix


@pytest.mark.usefixtures("_factory")
def test_weights_are_loaded_from_a_state_dictionary_of_tensors_alone(tmp_path: Path) -> None:
    network = networks.in_torch()
    with torch.no_grad():
        network[-1].bias.fill_(7)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    read = read_source("networks:in_torch", shapes=SHAPE, by={"name": "torch", "weights": str(tmp_path / "w.pt")})
    assert any((weight == 7).all() for weight in read.model.weights.values() if weight.shape == (10,))
    with pytest.raises(BadModel, match="no network") as caught:
        read_source(tmp_path / "w.pt")
    assert "--weights" in caught.value.fix
    torch.save({"a": Hostile()}, tmp_path / "evil.pt")
    with pytest.raises(BadModel, match="holds pickled objects beside tensors"):
        read_source("networks:in_torch", shapes=SHAPE, by={"name": "torch", "weights": str(tmp_path / "evil.pt")})


@pytest.mark.usefixtures("_factory")
def test_weights_are_loaded_from_safetensors(tmp_path: Path) -> None:
    network = networks.in_torch()
    state = {name: np.full(value.shape, 7, value.numpy().dtype) for name, value in network.state_dict().items()}
    (tmp_path / "w.safetensors").write_bytes(to_bytes(state))
    given = {"name": "torch", "weights": str(tmp_path / "w.safetensors")}
    read = read_source("networks:in_torch", shapes=SHAPE, by=given)
    assert any((weight == 7).all() for weight in read.model.weights.values() if weight.shape == (10,))
    (tmp_path / "w.safetensors").write_bytes(to_bytes(state)[:-4])
    with pytest.raises(BadModel, match=r"(?s)no safetensors.*does not lie"):
        read_source("networks:in_torch", shapes=SHAPE, by=given)


FACTORIES = """
import torch
from beside_networks import FEATURES

def network():
    return torch.nn.Linear(FEATURES, 3)

class Product(torch.nn.Module):
    def forward(self, a, b):
        return a @ b
"""


@pytest.mark.parametrize("source", ["nets.py:network", "nets:network", "deeper/nets.py:network"])
def test_a_factory_lies_in_a_file_or_in_a_module_of_the_working_directory(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (tmp_path / source).parent
    folder.mkdir(exist_ok=True)
    (folder / "nets.py").write_text(FACTORIES)
    (folder / "beside_networks.py").write_text("FEATURES = 5")
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "beside_networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = list(sys.path)
    assert read_source(source, shapes={"x": (-1, 5)}).outputs["output"].sqnr_db > 100
    assert sys.path == before


def test_a_working_directory_hides_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("raise SystemExit('hidden')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert imported("colorsys:rgb_to_hls", UsageError)(0, 0, 0) == (0.0, 0, 0.0)


def test_a_module_that_does_not_run_on_its_inputs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(FACTORIES)
    (tmp_path / "beside_networks.py").write_text("FEATURES = 5")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)does not run on inputs a:2,4.*'b'"):
        read_source("nets.py:Product", shapes={"a": (-1, 4)})
    with pytest.raises(UsageError, match="defines no 'nothing'"):
        read_source("nets.py:nothing")


def test_torchscript_is_read_with_an_input_that_is_described(tmp_path: Path) -> None:
    torch.jit.trace(networks.in_torch().eval(), torch.randn(2, 3, 16, 16)).save(str(tmp_path / "m.ts"))
    read = read_source(tmp_path / "m.ts", shapes=SHAPE)
    assert operators(read).count("BatchNormalization") == 2
    assert read.outputs["output"].sqnr_db > 100


def test_an_exported_program_is_read(tmp_path: Path) -> None:
    example = (torch.randn(2, 3, 16, 16),)
    dims = ({0: torch.export.Dim("n", min=1)},)
    torch.export.save(torch.export.export(networks.in_torch().eval(), example, dynamic_shapes=dims), tmp_path / "m.pt2")
    read = read_source(tmp_path / "m.pt2")
    assert operators(read).count("BatchNormalization") == 2
    assert read.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("place", ["constants/opaque_obj_0", "weights/weight_0"])
def test_an_archive_whose_tensors_are_objects_is_refused(tmp_path: Path, place: str) -> None:
    """Torch itself would unpickle them."""
    example = (torch.randn(1, 4),)
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), example), tmp_path / "m.pt2")
    evil = io.BytesIO()
    torch.save(Hostile(), evil)
    with zipfile.ZipFile(tmp_path / "m.pt2") as given, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as made:
        for name in given.namelist():
            content = given.read(name)
            if place.startswith("weights") and name.endswith("weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            made.writestr(name, evil.getvalue() if place.startswith("weights") and "/weight_" in name else content)
        if place.startswith("constants"):
            made.writestr(f"{given.namelist()[0].partition('/')[0]}/data/{place}", evil.getvalue())
    with pytest.raises(BadModel):
        read_source(tmp_path / "evil.pt2")


PICKLED: dict[str, tuple[Callable[[], Any], str]] = {
    "module": (lambda: networks.in_torch(), "is a pickled object, .*Sequential|is a pickled object, networks"),
    "in a dictionary": (lambda: {"net": networks.in_torch(), "epoch": 3}, "holds pickled objects beside tensors: "),
    "hostile": (Hostile, r"is a pickled object, (builtins|__builtin__|_sitebuiltins|site)"),
    "tensors": (lambda: networks.in_torch().state_dict(), "holds weights, and no network"),
}


@pytest.mark.parametrize("how", ["zip", "before 1.6", "protocol 4"])
@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickled_file_is_told_by_what_it_names_and_never_unpickled(tmp_path: Path, kind: str, how: str) -> None:
    make, told = PICKLED[kind]
    more: dict[str, Any] = {"pickle_protocol": 4} if how == "protocol 4" else {}
    torch.save(make(), tmp_path / "m.pt", _use_new_zipfile_serialization=how != "before 1.6", **more)
    with pytest.raises(BadModel, match=told) as caught:
        read_source(tmp_path / "m.pt")
    assert ("torch.export.save" if kind != "tensors" else "--weights") in str(caught.value.fix)
    if kind != "tensors":
        with pytest.raises(BadModel, match=told):
            read_source(
                f"{networks.__file__}:in_torch", shapes=SHAPE, by={"name": "", "weights": str(tmp_path / "m.pt")}
            )


def test_what_is_no_file_of_torchs_is_told_so(tmp_path: Path) -> None:
    for content in (b"", b"text", b"PK", b"\x80\x02", b"\x80\x04\x95" + bytes(40)):
        (tmp_path / "m.pt").write_bytes(content)
        with pytest.raises(BadModel, match="is no file of torch's"):
            read_source(tmp_path / "m.pt")


def test_what_differs_from_its_framework_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "drifting.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x + torch.randint(9, ()).float()\n"
    )
    with pytest.raises(BadModel, match="differs"):
        read_source("drifting:Net", shapes={"x": [2, 3]})
