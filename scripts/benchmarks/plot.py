"""A picture of the ratios: a bar for each figure with a peer, on a logarithmic scale, with its spread and its target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import median

from scripts.benchmarks.figure import Figure, Spread

_WIDTH, _LABELS, _BAR, _GAP, _TOP = 960, 400, 14, 8, 34
_SCALE_WIDTH = _WIDTH - _LABELS - 70
_COLOURS = {"met": "#2a9d5c", "not met": "#c8553d", "-": "#7a8ca3"}
_TICKS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0)


def draw(figures: Sequence[Figure]) -> str:
    """An SVG document. The line at 1 is the peer; a diamond is a target."""
    shown = [figure for figure in figures if all(ratio > 0 and math.isfinite(ratio) for ratio in figure.ratios or (0,))]
    edges = [1.0, *(value for figure in shown for value in (*figure.ratios, *_bounds(figure)))]
    scale = _Scale(min(edges) / 1.2, max(edges) * 1.2)
    height = _TOP + len(shown) * (_BAR + _GAP) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for tick in _TICKS:
        if scale.low <= tick <= scale.high:
            x, colour = scale.x(tick), "#444444" if tick == 1 else "#dddddd"
            lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 8}" stroke="{colour}"/>')
            lines.append(f'<text x="{x:.1f}" y="{_TOP - 14}" text-anchor="middle" fill="#444444">{tick:g}x</text>')
    for number, figure in enumerate(shown):
        lines += _bar(figure, scale, _TOP + number * (_BAR + _GAP))
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Scale:
    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def x(self, ratio: float) -> float:
        return _LABELS + _SCALE_WIDTH * math.log(ratio / self.low) / math.log(self.high / self.low)


def _bounds(figure: Figure) -> list[float]:
    target = figure.target
    return [bound for bound in (target.at_least, target.at_most) if bound] if target else []


def _bar(figure: Figure, scale: _Scale, top: float) -> list[str]:
    ratio = Spread.of(figure.ratios)
    middle = top + _BAR / 2
    start, end = sorted((scale.x(1.0), scale.x(median(figure.ratios))))
    label = escape(f"{figure.scenario}, {figure.quantity} to {figure.peer_name}")
    lines = [
        f'<text x="{_LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#222222">{label}</text>',
        f'<rect x="{start:.1f}" y="{top:.1f}" width="{max(end - start, 1):.1f}" height="{_BAR}" '
        f'fill="{_COLOURS[figure.verdict]}"/>',
        f'<line x1="{scale.x(ratio.low):.1f}" x2="{scale.x(ratio.high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
        'stroke="#111111" stroke-width="2"/>',
        f'<text x="{_WIDTH - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#222222">{ratio.median:.2f}x</text>',
    ]
    for bound in _bounds(figure):
        x = scale.x(bound)
        lines.append(
            f'<path d="M {x:.1f} {top - 1:.1f} l 5 {_BAR / 2 + 1:.1f} l -5 {_BAR / 2 + 1:.1f} l -5 -{_BAR / 2 + 1:.1f} z" '
            'fill="#ffffff" stroke="#111111"/>'
        )
    return lines
