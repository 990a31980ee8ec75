"""``intaglio passes`` lists what is registered, and what failed to load with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.kernels import loader
from intaglio.measure.accuracy import METRICS

from .conftest import Command


def test_every_plugin_is_listed_with_a_line_about_it(intaglio: Command) -> None:
    listed = intaglio("passes", "--json").json["plugins"]
    assert {e["name"] for e in listed if e["kind"] == "metric"} >= set(METRICS)
    assert all(e["about"] for e in listed if e["works"] and e["kind"] not in ("operator rule", "moment rule"))


def test_operators_with_a_rule_are_counted_and_listed_on_request(intaglio: Command) -> None:
    assert "operator rules: see --all" in intaglio("passes").out
    assert "GroupNormalization" in intaglio("passes", "--all").out


def test_an_operator_of_another_domain_has_a_page(intaglio: Command) -> None:
    assert intaglio("passes", "com.microsoft:QGemm").out.startswith("operator rule com.microsoft:QGemm")
    ran = intaglio("passes", "com.nowhere:Unheard")
    assert (ran.code, "--all" in ran.err, "QGemm" in ran.err) == (2, True, False)


def test_a_metric_from_another_package_is_used_and_a_broken_one_is_listed(
    intaglio: Command, classifier: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site"
    (package / "third_party-1.dist-info").mkdir(parents=True)
    (package / "third_party-1.dist-info" / "METADATA").write_text("Name: third-party\nVersion: 1\n")
    (package / "third_party-1.dist-info" / "entry_points.txt").write_text(
        "[intaglio.metrics]\nmean-label = third_party_metric:MeanLabel\nhopeless = third_party_metric:nothing\n"
    )
    (package / "third_party_metric.py").write_text(
        "class MeanLabel:\n"
        "    '''Mean of the labels.'''\n"
        "    def __init__(self): self.seen = []\n"
        "    def add(self, outputs, labels): self.seen += labels.tolist()\n"
        "    def result(self): return sum(self.seen) / len(self.seen)\n"
    )
    monkeypatch.syspath_prepend(str(package))
    for name in ("_found", "_broken"):
        monkeypatch.setattr(METRICS, name, dict(getattr(METRICS, name)))
    monkeypatch.setattr(METRICS, "_waiting", None)
    ran = intaglio("evaluate", classifier, "--data", labelled, "--metric", "mean-label", "--json")
    assert ran.json["metrics"] == {"mean-label": 7 / 8 + 0.0}
    listed = {e["name"]: e for e in intaglio("passes", "--json").json["plugins"]}
    assert listed["mean-label"]["about"] == "Mean of the labels."
    assert not listed["hopeless"]["works"]
    assert "nothing" in listed["hopeless"]["why"]


def test_the_state_of_the_kernels_is_told(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told = intaglio("passes", "--json").json["kernels"]
    assert told["built"] == loader.available()
    if loader.available():
        assert told["isa"] in told["present"]
        assert f"kernels: operators on bits run with {told['isa']}" in intaglio("passes").out
        monkeypatch.setenv("INTAGLIO_KERNELS", "mmx")
        assert "operators on bits do not run; INTAGLIO_KERNELS: no instruction set" in intaglio("passes").out
    monkeypatch.setattr(loader, "_load", lambda: "the kernels were not built: install a C compiler")
    assert "by their definitions; the kernels were not built: install a C compiler" in intaglio("passes").out


def test_options_of_what_is_no_pass_are_told_as_they_are_written(intaglio: Command) -> None:
    assert "norm:p=" in intaglio("passes", "norm").out
    assert "--p" not in intaglio("passes", "norm").out
    assert "--keep" not in intaglio("passes", "prune").out
    assert "--criterion" in intaglio("passes", "prune").out
