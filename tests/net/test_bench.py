# SPDX-License-Identifier: Apache-2.0
"""The measurements' machinery works. Nothing here depends on how fast anything is."""

import html.parser
import json
import subprocess
from pathlib import Path

import pytest
from flued import BUILD

RUN = Path(__file__).resolve().parents[1] / "bench/run"
SCENARIOS = ["rate-60", "rate-imix", "chains-9014", "queues-60", "ports16-256", "story", "latency-", "idle-2", "memory-2"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The results of a run of a moment, and the page."""
    directory = tmp_path_factory.mktemp("bench")
    command = [RUN, "--build", BUILD, "--pairs", "1", "--seconds", "0.05", "--peer", "flue", "--peer", "bare"]
    command += [word for name in SCENARIOS for word in ("--only", name)]
    command += ["--json", directory / "out" / "bench.json", "--html", directory / "out" / "bench.html"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    results = json.loads((directory / "out" / "bench.json").read_text())["results"]
    return {r["name"]: r for r in results}, (directory / "out" / "bench.html").read_text(), answer.stdout


def runs_of(result):
    return [run for runs in result["runs"].values() for run in runs if run]


def test_every_scenario_has_a_run_of_flue(measured):
    for name, result in measured[0].items():
        assert runs_of(result), name
        assert "flue" not in result["failed"], result["failed"]


def test_rates_are_plausible(measured):
    rates = [result for result in measured[0].values() if result["kind"] == "rate"]
    assert len(rates) == 5
    for run in (run for result in rates for run in runs_of(result)):
        assert run["frames"] > 0 and run["mpps"] > 0 and run["cycles"] > 0
        assert run["cycles_from"] == "busy-polls"


def test_the_story_tells_what_a_gigabyte_costs(measured):
    runs = [measured[0][f"story-{name}"]["runs"]["flue"][0] for name in ("MTU-1500", "MTU-9000", "super-frames")]
    assert [round(run["frames_per_gb"]) for run in runs] == [661, 111, 15]
    for run in runs:
        assert run["mcycles_per_gb"] == pytest.approx(run["cycles"] * run["frames_per_gb"] / 1e3)
        assert run["gbps"] > 0 and run["frames"] > 0
    assert "does not offer" in measured[0]["story-super-frames"]["failed"]["bare"]


def test_flue_tells_its_stages(measured):
    run = measured[0]["rate-60"]["runs"]["flue"][0]
    assert set(run["stages"]) == {"receive", "lookup", "copy", "completion", "notification", "empty"}
    assert run["stages"]["copy"] > 0
    assert run["stages_to_cpu_time"] > 0


def test_latencies_are_ordered(measured):
    for run in (run for result in measured[0].values() if "p50_us" in str(result["summary"]) for run in runs_of(result)):
        assert 0 < run["p50_us"] <= run["p99_us"] <= run["p999_us"]


def test_ratios_are_of_pairs(measured):
    result = measured[0]["rate-60"]
    flue, bare = (result["runs"][peer][0]["mpps"] for peer in ("flue", "bare"))
    assert result["ratios"]["flue / bare"]["mpps"]["median"] == pytest.approx(flue / bare)


def test_what_cannot_take_part_is_said(measured):
    results, page, printed = measured
    assert "joins two ports" in results["ports16-256"]["failed"]["bare"]
    assert "joins two ports" in page and "joins two ports" in printed


def test_the_page_is_whole(measured):
    depth = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "rect", "path", "br"):
                depth.append(tag)

        def handle_endtag(self, tag):
            if tag not in ("rect", "path"):
                assert depth.pop() == tag

    Parser().feed(measured[1])
    assert depth == []
    assert measured[1].count("<svg") >= 5
    assert "http" not in measured[1]
