"""Charts as inline SVG: numbers in, text out. CSS sets the colours, for light and dark."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, FOOT, LEFT = 420, 150, 18, 40
BINS = 24
POINTS = 200
COLOURS = {
    "completed": "#009e73",
    "incomplete": "#e69f00",
    "expired": "#cc79a7",
    "failed": "#d55e00",
    "cancelled": "#8a8a8a",
    "rejected": "#b3a02f",
    "running": "#56b4e9",
    "queued": "#c9d3dc",
}
"""From the palette of Okabe and Ito, whose colours colour-blind people can distinguish."""


def _svg(body: str, label: str, height: int = HEIGHT + FOOT) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role=img aria-label="{escape(label)}">{body}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _rect(x: float, y: float, size: tuple[float, float], title: str, style: str) -> str:
    width, height = size
    position = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f"<rect {position} {style}><title>{escape(title)}</title></rect>"


def stacked(shares: Sequence[tuple[str, int, str]]) -> str:
    """One stacked bar of (name, count, colour) parts, with the counts in a legend."""
    total = sum(count for _, count, _ in shares) or 1
    x, parts, legend = 0.0, [], []
    for name, count, colour in shares:
        if count:
            width, label = WIDTH * count / total, f"{name} {count:,} ({100 * count / total:.3g} %)"
            parts.append(_rect(x, 0, (width, 12), label, f'fill="{colour}"'))
            legend.append(f"<span>{_swatch(colour)}{label}</span>")
            x += width
    return _svg("".join(parts), "rows by status", 12) + f"<p class=legend>{''.join(legend)}</p>"


def _swatch(colour: str) -> str:
    """A dot of the colour: a style would be refused by the web page's Content-Security-Policy."""
    dot = f'<rect width=10 height=10 rx=2 fill="{colour}"/>'
    return f'<svg class=dot viewBox="0 0 10 10" aria-hidden=true>{dot}</svg>'


def _nice_step(span: float, bins: int) -> float:
    """1, 2 or 5 times a power of ten, which gives round bin edges."""
    raw = span / bins
    power = 10.0 ** floor(log10(raw))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= raw)


def histogram(values: Sequence[float]) -> str:
    """Frequencies of the values; those beyond the 99th percentile are in the last bar."""
    if not values:
        return ""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    if high <= low:
        high = low + max(abs(low), 1.0) * 0.1
    step = _nice_step(high - low, BINS)
    start = floor(low / step) * step
    count = max(1, ceil((high - start) / step + 1e-9))
    bins = [0] * count
    for value in ordered:
        bins[min(count - 1, int((value - start) / step))] += 1
    most, wide = max(bins), (WIDTH - LEFT) / count
    drawn = [
        _bar(LEFT + at * wide, wide, number / most, f"{_number(start + at * step)}: {number:,}")
        for at, number in enumerate(bins)
        if number
    ]
    ends = (_number(start), _number(start + count * step))
    return _svg("".join(drawn) + _axis(most, ends), "histogram")


def _bar(x: float, width: float, share: float, title: str) -> str:
    height = max(1.0, share * (HEIGHT - 12))
    return _rect(x + 0.5, HEIGHT - height, (max(1.0, width - 1), height), title, "class=bar")


def _axis(most: float, ends: tuple[str, str]) -> str:
    base = f'<path class=axis d="M{LEFT} {HEIGHT}H{WIDTH}"/>'
    sides = _text(LEFT - 4, 18, _number(most), "end") + _text(LEFT - 4, HEIGHT, "0", "end")
    return base + sides + _text(LEFT, HEIGHT + 14, ends[0]) + _text(WIDTH, HEIGHT + 14, ends[1], "end")


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """One bar per name, with its count."""
    if not counts:
        return ""
    most, wide, parts = max(count for _, count in counts) or 1, WIDTH / max(3, len(counts)), []
    for at, (name, count) in enumerate(counts):
        middle = (at + 0.5) * wide
        parts.append(_bar(at * wide + wide * 0.2, wide * 0.6, 0.9 * count / most, f"{name}: {count:,}"))
        parts.append(_text(middle, HEIGHT - 0.9 * count / most * (HEIGHT - 12) - 4, f"{count:,}", "middle"))
        parts.append(_text(middle, HEIGHT + 14, name.replace("_", " "), "middle"))
    return _svg("".join(parts) + f'<path class=axis d="M0 {HEIGHT}H{WIDTH}"/>', "bars")


def line(times_s: Sequence[float]) -> str:
    """The number of ends over time; the first end is at the left edge."""
    if len(times_s) < 2:
        return ""
    ordered = sorted(times_s)
    first, span = ordered[0], max(ordered[-1] - ordered[0], 1e-9)
    stride = max(1, len(ordered) // POINTS)
    numbered = [*list(enumerate(ordered, start=1))[::stride], (len(ordered), ordered[-1])]
    points = [
        (LEFT + (at - first) / span * (WIDTH - LEFT), HEIGHT - number / len(ordered) * (HEIGHT - 12))
        for number, at in numbered
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return _svg(
        f'<path class=line d="{path}"/>' + _axis(len(ordered), ("0 s", f"{_number(span)} s")),
        "rows over time",
    )
