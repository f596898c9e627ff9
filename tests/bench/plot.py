# SPDX-License-Identifier: Apache-2.0
"""Bars with their spread, as SVG: one group of bars for each scenario, one bar for each peer."""

from html import escape

WIDTH, LABEL, VALUE = 760, 190, 150  # of it all, of the names at the left, of the numbers at the right
BAR, GAP, HEAD = 15, 12, 8  # height of a bar, between groups, above the first
PEERS = ["flue", "bare", "testpmd", "ovs-dpdk", "two wake-ups", "ovs-dpdk tso"]  # each keeps its colour (page.py: .c0 to .c5)


def colour(peer):
    return f"c{PEERS.index(peer) if peer in PEERS else len(PEERS) - 1}"


def bar(y, peer, values, scale, digits):
    """A bar to the median, a line from the least to the most, and the median in figures."""
    middle, end = y + BAR / 2, LABEL + values["median"] * scale
    low, high = LABEL + values["min"] * scale, LABEL + values["max"] * scale
    about = f"{peer}: {values['median']:.{digits}f} ({values['min']:.{digits}f} to {values['max']:.{digits}f})"
    return (
        f'<g><title>{escape(about)}</title>'
        f'<rect class="{colour(peer)}" x="{LABEL}" y="{y + 1:.1f}" width="{max(end - LABEL, 1):.1f}" height="{BAR - 3}" rx="2"/>'
        f'<path class="spread" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6M{high:.1f} {middle - 3:.1f}v6"/>'
        f'<text class="value" x="{max(high, end) + 6:.1f}" y="{middle + 4:.1f}">{values["median"]:.{digits}f}</text></g>'
    )


def chart(rows, digits):
    """@rows: (title, {peer: {median, min, max}}) for each scenario."""
    most = max(values["max"] for _, peers in rows for values in peers.values())
    scale = (WIDTH - LABEL - VALUE) / most if most > 0 else 0
    parts, y = [], HEAD
    for title, peers in rows:
        middle = y + len(peers) * BAR / 2 + 4
        parts.append(f'<text class="label" x="{LABEL - 10}" y="{middle:.1f}" text-anchor="end">{escape(title)}</text>')
        for peer, values in peers.items():
            parts.append(bar(y, peer, values, scale, digits))
            y += BAR
        y += GAP
    axis = f'<path class="axis" d="M{LABEL} {HEAD - 4}V{y - GAP + 4}"/>'
    return f'<svg viewBox="0 0 {WIDTH} {y}" role="img">{"".join(parts)}{axis}</svg>'


def legend(peers):
    keys = "".join(f'<span><i class="{colour(peer)}"></i>{escape(peer)}</span>' for peer in peers)
    return f'<p class="legend">{keys}</p>'
