"""``intaglio evaluate`` gives the accuracy that the makers of real models measured, and gates on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

CIFAR = "cifar10_test_first2000.npz"
REAL = [
    ("resnet20.onnx", CIFAR, "cifar10", 1831),
    ("resnet20-bn.onnx", CIFAR, "scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw", 1831),
    ("mlperf-resnet8.onnx", CIFAR, "layout=nchw", 1736),
    ("kws_dscnn_from_drq_tflite.onnx", "kws01_even500.npz", "offset=-83,scale=0.5847029,shape=1x49x10", 453),
]


@pytest.mark.parametrize(("model", "data", "preprocess", "right"), REAL, ids=lambda v: str(v).partition(".")[0])
def test_real_models_reach_the_published_accuracy(
    intaglio: Command, shared_data: Path, model: str, data: str, preprocess: str, right: int
) -> None:
    ran = intaglio("evaluate", shared_data / model, "--data", shared_data / data, "--preprocess", preprocess, "--json")
    assert ran.code == 0
    assert ran.json["metrics"]["top1"] * ran.json["samples"] == pytest.approx(right)


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_the_batch_changes_nothing(intaglio: Command, shared_data: Path, batch: int) -> None:
    model, data, preprocess, _ = REAL[3]
    args = ("--data", shared_data / data, "--preprocess", preprocess, "--batch", batch, "--json")
    assert intaglio("evaluate", shared_data / model, *args).json["metrics"]["top1"] == 0.906


def test_a_table_is_printed_and_notes_go_elsewhere(intaglio: Command, classifier: Path, labelled: Path) -> None:
    ran = intaglio("evaluate", classifier, "--data", labelled)
    assert (ran.code, ran.err) == (0, "")
    assert "75.00 %" in ran.out


def test_top5_is_measured_only_where_it_says_something(intaglio: Command, classifier: Path, labelled: Path) -> None:
    assert intaglio("evaluate", classifier, "--data", labelled, "--json").json["metrics"] == {"top1": 0.75}
    asked = intaglio("evaluate", classifier, "--data", labelled, "--metric", "top5", "--json")
    assert asked.json["metrics"] == {"top5": 1.0}


@pytest.mark.parametrize(("limit", "code"), [("0.75", 0), ("75%", 0), ("0.76", 3), ("76%", 3)])
def test_a_gate_ends_with_3_and_still_tells_the_result(
    intaglio: Command, classifier: Path, labelled: Path, limit: str, code: int
) -> None:
    ran = intaglio("evaluate", classifier, "--data", labelled, "--min", f"top1={limit}", "--json")
    assert ran.code == code
    assert ran.json["metrics"] == {"top1": 0.75}
    assert ("error" in ran.json) == (code == 3)
    told = intaglio("evaluate", classifier, "--data", labelled, "--min", f"top1={limit}")
    assert told.code == code
    assert "75.00 %" in told.out
    assert told.err.startswith("error: top1 is 75.00 %") == (code == 3)


def test_samples_takes_the_first(intaglio: Command, classifier: Path, labelled: Path) -> None:
    ran = intaglio("evaluate", classifier, "--data", labelled, "--samples", 2, "--json")
    assert (ran.json["samples"], ran.json["metrics"]["top1"]) == (2, 0.0)


def test_a_fixed_batch_counts_every_sample_once(intaglio: Command, labelled: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "five.onnx", "float[5,3] x", "float[5,3] y", "y = Relu(x)")
    ran = intaglio("evaluate", model, "--data", labelled, "--json")
    assert (ran.json["samples"], ran.json["metrics"]["top1"]) == (8, 0.75)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("--metric", "top2"), 2, "top1"),
        (("--min", "top1"), 2, "--min top1=0.9"),
        (("--min", "top9=0.5"), 2, "top9"),
        (("--output", "z"), 2, "choose one of y"),
        (("--preprocess", "scale=x"), 2, "scale=1/255"),
        (("--preprocess", "shape=4"), 1, "does not fit"),
        (("--batch", "0"), 2, "--batch"),
        (("--samples", "0"), 2, "--samples"),
        (("--shape", "x"), 2, "--shape image:1,3,224,224"),
    ],
    ids=lambda v: "_".join(v) if isinstance(v, tuple) else "",
)
def test_options_that_cannot_be_meant_say_what_can(
    intaglio: Command, classifier: Path, labelled: Path, args: tuple[str, ...], code: int, told: str
) -> None:
    ran = intaglio("evaluate", classifier, "--data", labelled, *args)
    assert (ran.code, ran.out) == (code, "")
    assert told in ran.err


def test_data_without_labels_is_refused_with_another_way(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32))
    ran = intaglio("evaluate", classifier, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "intaglio compare" in ran.err


def test_labels_of_another_data_set_are_refused(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32), labels=[0, 1, 3])
    ran = intaglio("evaluate", classifier, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "outside the 3 classes" in ran.err


def test_a_model_that_mixes_samples_up_is_told_to_run_one_at_a_time(intaglio: Command, tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "one.onnx", "float[N,3] x", "float[1,3] y", "s = ReduceMax <axes=[0], keepdims=1> (x) y = Relu(s)"
    )
    np.savez(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32), labels=[0, 1, 2])
    ran = intaglio("evaluate", model, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "--batch 1" in ran.err
    assert intaglio("evaluate", model, "--data", tmp_path / "d.npz", "--batch", 1).code == 0


def test_a_metric_with_an_option_is_measured_and_held_to_a_limit(
    intaglio: Command, classifier: Path, labelled: Path
) -> None:
    ran = intaglio(
        "evaluate", classifier, "--data", labelled, "--metric", "topk:k=1", "--min", "topk:k=1=0.9", "--json"
    )
    assert ran.code == 3
    assert ran.json["metrics"] == {"topk:k=1": 0.75}


def test_what_is_left_on_worse_images_is_told_beside_a_reference(intaglio: Command, tmp_path: Path) -> None:
    data = (EXAMPLES / "digits_test.npz", "--samples", 60)
    original, small = EXAMPLES / "digits.onnx", tmp_path / "w4.onnx"
    assert intaglio("quantize", original, "-o", small, "--scheme", "w4", "--no-measure").code == 0
    ran = [
        intaglio("evaluate", small, "--data", *data, "--corruptions", *more, "--json").json
        for more in ((), ("--reference", original), ("--reference", small))
    ]
    alone, beside, itself = (one["corruptions"] for one in ran)
    assert [*alone["values"]] == ["noise", "blur", "contrast", "brightness", "jpeg"]
    assert alone["values"] == beside["values"]
    for found in (alone, beside):
        for kind, values in found["values"].items():
            assert found["relative"][kind] == pytest.approx(100 * np.mean(values) / found["beside"][kind])
        squares = [value**2 for value in found["relative"].values()]
        assert found["overall"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert set(alone["beside"].values()) == {ran[0]["metrics"]["top1"]}
    assert set(itself["relative"].values()) == {100}
    assert min(map(min, alone["values"].values())) < ran[0]["metrics"]["top1"]
    shown = intaglio("evaluate", small, "--data", *data, "--corruptions")
    assert "quadratic mean" in shown.out


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--reference", "other.onnx"), 2, "--reference says nothing without --corruptions"),
        (("--corruptions",), 1, "--corruptions is for images"),
        (("--corruptions", "--metric", "mse"), 1, "labels' shape"),
    ],
)
def test_what_cannot_be_made_worse_is_told(
    intaglio: Command, classifier: Path, labelled: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    ran = intaglio("evaluate", classifier, "--data", labelled, *more)
    assert (ran.code, said in ran.err) == (code, True), ran.err


@pytest.mark.parametrize(("limit", "code"), [("accuracy >= 0.75", 0), ("top1 >= 76%", 3), ("drop <= 1.0", 2)])
def test_gates_are_told_in_the_files_of_a_pipeline(
    intaglio: Command, classifier: Path, labelled: Path, tmp_path: Path, limit: str, code: int
) -> None:
    junit, words = tmp_path / "junit.xml", tmp_path / "report.md"
    files = ("--junit", junit, "--markdown", words)
    ran = intaglio("evaluate", classifier, "--data", labelled, "--gate", limit, *files, "--json")
    assert ran.code == code
    if code == 2:
        assert "intaglio compare" in ran.json["error"]["fix"]
        return
    assert ran.json["passed"] == (code == 0)
    assert f'failures="{int(code == 3)}"' in junit.read_text()
    assert "0.75" in words.read_text()
