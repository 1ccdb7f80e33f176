"""Bar charts as SVG: a linear axis that begins at zero, always."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP = 760, 150, 150, 84
_BAR, _GAP, _GROUP_GAP, _BOTTOM = 17, 4, 16, 44
_TICKS = 6
_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2937}"
    ".title{font-size:16px;font-weight:600}.note,.tick{fill:#6b7280;font-size:12px}"
    ".card{fill:#ffffff;stroke:#e5e7eb}.grid{stroke:#e5e7eb}.zero{stroke:#9ca3af}.reach{stroke:#1f2937;stroke-width:1.2}"
    "@media (prefers-color-scheme:dark){text{fill:#e5e7eb}.note,.tick{fill:#9ca3af}.card{fill:#0d1117;stroke:#30363d}"
    ".grid{stroke:#21262d}.zero{stroke:#6b7280}.reach{stroke:#e5e7eb}}"
)


@dataclass(frozen=True)
class Bar:
    """`reach` is the p99, if there is one: a thin line from the bar's end goes there."""

    series: str
    value: float
    reach: float | None = None


@dataclass(frozen=True)
class Group:
    """Bars that belong together."""

    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Chart:
    """`colours` maps series to CSS colours, in the order of the legend."""

    title: str
    note: str
    unit: str
    colours: Mapping[str, str]
    groups: Sequence[Group]

    def svg(self) -> str:
        """The whole drawing. Raises ValueError when there is nothing to draw."""
        most = max(max(bar.value, bar.reach or 0) for group in self.groups for bar in group.bars)
        step = nice_step(most)
        end = step * math.ceil(most / step)
        bottom = _TOP + sum(_height(group) + _GROUP_GAP for group in self.groups)
        parts = [self._frame(bottom + _BOTTOM), *self._legend(), *_axis(step, end, bottom, self.unit)]
        top = _TOP + _GROUP_GAP / 2
        for group in self.groups:
            parts += self._group(group, top, (_WIDTH - _LEFT - _RIGHT) / end)
            top += _height(group) + _GROUP_GAP
        return "\n".join([*parts, "</svg>", ""])

    def _frame(self, height: float) -> str:
        title, note = escape(self.title), escape(self.note)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:g}"'
            f' viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{title}">\n<style>{_STYLE}</style>\n'
            f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:g}" rx="8"/>\n'
            f'<text class="title" x="20" y="30">{title}</text>\n<text class="note" x="20" y="50">{note}</text>'
        )

    def _legend(self) -> list[str]:
        parts, left = [], 20.0
        for series, colour in self.colours.items():
            parts.append(f'<rect x="{left:g}" y="62" width="12" height="12" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{left + 18:g}" y="72.5">{escape(series)}</text>')
            left += 42 + 7.2 * len(series)
        return parts

    def _group(self, group: Group, top: float, scale: float) -> list[str]:
        middle = top + _height(group) / 2 + 4.5
        parts = [f'<text x="{_LEFT - 12}" y="{middle:g}" text-anchor="end">{escape(group.label)}</text>']
        for number, bar in enumerate(group.bars):
            y = top + number * (_BAR + _GAP)
            end = _LEFT + bar.value * scale
            colour = self.colours[bar.series]
            parts.append(
                f'<rect x="{_LEFT}" y="{y:g}" width="{bar.value * scale:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>'
            )
            if bar.reach is not None and bar.reach > bar.value:
                parts += _reach(end, _LEFT + bar.reach * scale, y + _BAR / 2)
                end = _LEFT + bar.reach * scale
            label = f"{short(bar.value)} {self.unit}" + (f", p99 {short(bar.reach)}" if bar.reach is not None else "")
            parts.append(f'<text x="{end + 8:.1f}" y="{y + _BAR - 4:g}">{escape(label)}</text>')
        return parts


def _height(group: Group) -> float:
    return len(group.bars) * (_BAR + _GAP) - _GAP


def _reach(start: float, end: float, y: float) -> list[str]:
    return [
        f'<line class="reach" x1="{start:.1f}" x2="{end:.1f}" y1="{y:g}" y2="{y:g}"/>',
        f'<line class="reach" x1="{end:.1f}" x2="{end:.1f}" y1="{y - 4:g}" y2="{y + 4:g}"/>',
    ]


def _axis(step: float, end: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for number in range(round(end / step) + 1):
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * number * step / end
        kind = "grid" if number else "zero"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom:g}"/>')
        label = f"{number * step:g}" if number else f"0 {unit}"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18:g}" text-anchor="middle">{escape(label)}</text>')
    return parts


def nice_step(most: float) -> float:
    """1, 2 or 5 times a power of ten, such that about six of them reach `most`. Raises ValueError for what is not
    above zero."""
    if not most > 0:
        raise ValueError("nothing to draw")
    rough = most / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def short(value: float) -> str:
    """Three digits are what a measurement of this kind is good for."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
