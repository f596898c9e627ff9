# SPDX-License-Identifier: Apache-2.0
"""Runs gathered, summed up as medians and spreads, and shown on the terminal."""

import statistics

from scenarios import KINDS


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Result:
    """Of one scenario."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.runs = {}  # peer: one dict for each pair, None where it failed
        self.failed = {}  # peer: why

    def add(self, peer, run):
        self.runs.setdefault(peer, []).append(run)

    def fail(self, peer, why):
        self.failed[peer] = why
        self.runs.setdefault(peer, []).append(None)

    def metrics(self):
        return KINDS[self.scenario.kind][1]

    def values(self, peer, metric):
        return [run[metric] for run in self.runs.get(peer, []) if run and metric in run]

    def summary(self):
        return {
            peer: {m: spread(self.values(peer, m)) for m in self.metrics() if self.values(peer, m)} for peer in self.runs
        }

    def ratios(self):
        """flue / peer, taken pair by pair: neighbours in time see the same machine."""
        found = {}
        for peer in self.runs:
            for metric in self.metrics():
                pairs = zip(self.runs.get("flue", []), self.runs[peer])
                values = [a[metric] / b[metric] for a, b in pairs if a and b and metric in a and b.get(metric)]
                if peer != "flue" and values:
                    found.setdefault(f"flue / {peer}", {})[metric] = spread(values)
        return found

    def as_json(self):
        s = self.scenario
        about = {"name": s.name, "kind": s.kind, "title": s.title, "size": s.size, "ports": s.ports, "pairs": s.pairs}
        return about | {
            "runs": self.runs, "failed": self.failed, "summary": self.summary(), "ratios": self.ratios(),
            "disturbed": disturbed(self),
        }  # fmt: skip


def text_of(values, digits):
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f} to {values['max']:.{digits}f})"


def stage_text(result):
    runs = [run for run in result.runs.get("flue", []) if run and "stages" in run]
    if not runs:
        return None
    names = [name for name in runs[0]["stages"] if name != "empty"]
    parts = [f"{name} {statistics.median(r['stages'][name] for r in runs):.0f}" for name in names]
    share = statistics.median(r["stages_to_cpu_time"] for r in runs)
    return f"{', '.join(parts)} cycles a frame; all stages are {share:.2f} of the worker's CPU time"


def disturbed(result):
    """Runs in which others ran on the switch's core: cycles are read from a clock, and count theirs too. A peer that
    polls without end has the core to itself, or was disturbed; flue may sleep, but its stages must add up."""
    count = 0
    for peer, runs in result.runs.items():
        for run in runs:
            if run and "cpu_share" in run:
                count += run["stages_to_cpu_time"] > 1.1 if "stages_to_cpu_time" in run else (
                    peer != "flue" and run["cpu_share"] < 0.9)  # fmt: skip
    return count


def print_result(result):
    """The scenario's rows: a peer each, then flue's ratio to each."""
    metrics = result.metrics()
    print(f"{result.scenario.name}: {result.scenario.title}")
    for peer, summary in result.summary().items():
        if not summary:
            continue
        estimated = any(run and run.get("cycles_from") == "cpu-time" for run in result.runs[peer])
        cells = [f"{text_of(values, metrics[m][2])} {metrics[m][1]}" for m, values in summary.items()]
        print(f"  {peer:20} {'   '.join(f'{cell:38}' for cell in cells)}{' by CPU time' if estimated else ''}".rstrip())
    for name, ratios in result.ratios().items():
        cells = [f"{text_of(values, 2)} {metrics[m][0]}" for m, values in ratios.items()]
        print(f"  {name:20} {'   '.join(f'{cell:38}' for cell in cells)}".rstrip())
    if stages := stage_text(result):
        print(f"  {'flue, by stage':20} {stages}")
    if count := disturbed(result):
        print(f"  {count} runs shared the switch's core with other programs: their cycles are too high")
    for peer, why in result.failed.items():
        print(f"  {peer:20} did not take part: {why}")
    print(flush=True)
