"""What is written for the target onnx runs in a browser and in Node as it does here.

Needs onnxruntime-web and onnxruntime-node of npm in the folder that INTAGLIO_NODE_MODULES names, and Chromium.
"""

from __future__ import annotations

import functools
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from intaglio.pipeline.exporting import export

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODULES = Path(os.environ.get("INTAGLIO_NODE_MODULES", "node_modules")).resolve()
NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium") or shutil.which("chromium-browser")
RUN = """
async function logits(ort, model, image) {
  const session = await ort.InferenceSession.create(model);
  const feeds = {[session.inputNames[0]]: new ort.Tensor("float32", Float32Array.from(image.data), image.shape)};
  const found = await session.run(feeds);
  return Array.from(found[session.outputNames[0]].data);
}
"""
IN_NODE = """
const fs = require("fs");
const ort = require("PACKAGE");
logits(ort, MODEL, JSON.parse(fs.readFileSync("image.json"))).then(v => console.log(JSON.stringify(v)));
"""
IN_BROWSER = """<!doctype html><body>waiting</body><script src="dist/ort.wasm.min.js"></script><script>RUN
ort.env.wasm.wasmPaths = "/dist/"; ort.env.wasm.numThreads = 1;
fetch("image.json").then(r => r.json()).then(image => logits(ort, "m.onnx", image))
  .then(v => document.body.textContent = JSON.stringify(v), e => document.body.textContent = "failed: " + e);
</script>"""


def needs(package: str) -> None:
    if not (MODULES / package).is_dir():
        pytest.skip(f"{package} of npm is not there: set INTAGLIO_NODE_MODULES to a folder node_modules that has it")


@pytest.fixture(params=["digits", "binary_digits"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A folder with an exported model and an image, and what ONNX Runtime makes of it."""
    export(EXAMPLES / f"{request.param}.onnx", "onnx", tmp_path / "m.onnx", measure=False)
    image = np.load(EXAMPLES / "digits_test.npz")["image"][:1].astype(np.float32)
    (tmp_path / "image.json").write_text(json.dumps({"data": image.ravel().tolist(), "shape": image.shape}))
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    return tmp_path, session.run(None, {session.get_inputs()[0].name: image})[0].ravel()


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_node_computes_the_same(served: tuple[Path, np.ndarray], package: str) -> None:
    needs(package)
    folder, wanted = served
    model = '"m.onnx"' if package.endswith("node") else 'new Uint8Array(fs.readFileSync("m.onnx"))'
    (folder / "run.js").write_text(RUN + IN_NODE.replace("PACKAGE", package).replace("MODEL", model))
    environment = {**os.environ, "NODE_PATH": str(MODULES)}
    done = subprocess.run(
        [str(NODE), "run.js"], cwd=folder, capture_output=True, text=True, env=environment, check=True
    )
    assert np.abs(np.array(json.loads(done.stdout)) - wanted).max() < 1e-3


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address(served: tuple[Path, np.ndarray]) -> Iterator[str]:
    """The folder, as a browser fetches it."""
    needs("onnxruntime-web")
    folder, _ = served
    (folder / "dist").symlink_to(MODULES / "onnxruntime-web" / "dist")
    (folder / "page.html").write_text(IN_BROWSER.replace("RUN", RUN))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_computes_the_same(served: tuple[Path, np.ndarray], address: str, tmp_path: Path) -> None:
    _, wanted = served
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--timeout=20000",
    ]
    words += ["--virtual-time-budget=20000", "--dump-dom", address]
    done = subprocess.run([str(CHROMIUM), *words], capture_output=True, text=True, check=True, timeout=120)
    body = html.unescape(re.findall(r"<body>(.*?)</body>", done.stdout, re.DOTALL)[0])
    assert np.abs(np.array(json.loads(body.partition("<script")[0])) - wanted).max() < 1e-3
