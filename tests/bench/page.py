# SPDX-License-Identifier: Apache-2.0
"""The results as one page that needs nothing else: plots, ratios, and what did not take part."""

from html import escape

import peers
from plot import PEERS, chart, legend
from results import disturbed, stage_text, text_of
from scenarios import KINDS

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #68737c; --line: #d9dee2; --back: #fff;
  --c0: #1769c2; --c1: #9aa5ae; --c2: #d98a1f; --c3: #3f9156; --c4: #8a5bb5; --c5: #2a9d9d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --soft: #98a4ad; --line: #384149; --back: #15191c;
  --c0: #5aa5f2; --c1: #6c7780; --c2: #e8a64b; --c3: #63bb7c; --c4: #b18adb; --c5: #57c4c4; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--ink); background: var(--back);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; } h3 { font-size: .95rem; margin-bottom: .2rem; }
p, td { color: var(--ink); } .soft { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .value { fill: var(--soft); } svg .spread { stroke: var(--ink); stroke-opacity: .55; fill: none; }
svg .axis { stroke: var(--line); }
.c0 { fill: var(--c0); background: var(--c0); } .c1 { fill: var(--c1); background: var(--c1); }
.c2 { fill: var(--c2); background: var(--c2); } .c3 { fill: var(--c3); background: var(--c3); }
.c4 { fill: var(--c4); background: var(--c4); } .c5 { fill: var(--c5); background: var(--c5); }
.legend span { margin-right: 1.2rem; } .legend i { display: inline-block; width: .8em; height: .8em;
  border-radius: 2px; margin-right: .4em; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
"""


def table(head, rows):
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{cells}</tr>{body}</table></div>' if rows else ""


def plots(kind, results):
    parts = []
    for metric, (title, unit, digits, better) in KINDS[kind][1].items():
        rows = [(r.scenario.title, {p: s[metric] for p, s in r.summary().items() if metric in s}) for r in results]
        rows = [(name, values) for name, values in rows if values]
        if rows:
            parts.append(f'<h3>{escape(title)}, {escape(unit)} <span class="soft">({better} is better)</span></h3>')
            parts.append(chart(rows, digits))
    return "".join(parts)


def ratio_rows(results):
    for r in results:
        for name, metrics in r.ratios().items():
            for metric, values in metrics.items():
                yield r.scenario.title, name, r.metrics()[metric][0], text_of(values, 2)


def section(kind, results):
    taking_part = [p for p in PEERS if any(any(r.runs.get(p, [])) for r in results)]
    stages = [(r.scenario.title, text) for r in results if (text := stage_text(r))]
    shared = [(r.scenario.title, count) for r in results if (count := disturbed(r))]
    failed = [(r.scenario.title, peer, why) for r in results for peer, why in r.failed.items()]
    return (
        f"<h2>{escape(KINDS[kind][0])}</h2>{legend(taking_part)}{plots(kind, results)}"
        + table(["scenario", "ratio", "of", "median (least to most) of the pairs"], list(ratio_rows(results)))
        + table(["scenario", "where flue's cycles went"], stages)
        + table(["scenario", "runs that shared the switch's core with others: cycles too high"], shared)
        + table(["scenario", "did not take part", "why"], failed)
    )


def page(machine, results):
    about = f"{machine['date']}, {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; the client on CPU "
    about += f"{machine['client_cpu']}, the switch on CPU {machine['switch_cpu']}; {machine['pairs']} pairs of "
    about += f"{machine['seconds']:g} s each."
    kinds = dict.fromkeys(r.scenario.kind for r in results)
    sections = "".join(section(kind, [r for r in results if r.scenario.kind == kind]) for kind in kinds)
    who = table(["peer", ""], [(p.name, p.what) for p in peers.ALL])
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Flue, measured</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>Flue, measured</h1><p class="soft">{escape(about)} Bars are medians, the lines across them reach from the '
        f"least to the most. Peers took turns; ratios are of neighbours in time.</p>{who}{sections}</body></html>\n"
    )
