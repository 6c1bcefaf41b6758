"""Draws what a terminal showed as an SVG picture of some frames, without scripts, fonts or other files.

Several frames are shown one after the other by a CSS animation. Who prefers reduced motion sees the last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

THEME = TerminalTheme(
    (24, 26, 32),
    (222, 226, 232),
    [
        (24, 26, 32),
        (240, 113, 120),
        (126, 200, 120),
        (240, 190, 90),
        (110, 170, 250),
        (200, 140, 240),
        (90, 200, 210),
        (222, 226, 232),
    ],
)
"""A dark window, which is readable on a light page and on a dark one."""
CELL_W, CELL_H, FONT_SIZE, MARGIN, BAR_H = 8.4, 18, 14, 14, 28
GREY = "#555b66"
SHADES = {"█": 1, "▓": 0.75, "▒": 0.55, "░": 0.25}
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


@dataclass(frozen=True)
class Frame:
    """A screen as `tmux capture-pane -e` prints it, and for how long it is shown."""

    ansi: str
    seconds: float


def draw(frames: Sequence[Frame], columns: int, title: str) -> str:
    """Return the SVG. `title` is for people who do not see the picture."""
    screens = [list(_lines(frame.ansi, columns)) for frame in frames]
    rows = max(len(screen) for screen in screens)
    width, height = round(columns * CELL_W + 2 * MARGIN), rows * CELL_H + 2 * MARGIN + BAR_H
    window = f'width="{width}" height="{height}" rx="8" fill="{THEME.background_color.hex}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>text{{font:{FONT_SIZE}px {FONTS};white-space:pre;fill:{THEME.foreground_color.hex}}}",
        *_animation([frame.seconds for frame in frames]),
        "</style>",
        f'<rect {window} stroke="{GREY}"/>',
        *(
            f'<circle cx="{MARGIN + 6 + 18 * number}" cy="{BAR_H / 2 + 2:g}" r="5" fill="{GREY}"/>'
            for number in range(3)
        ),
    ]
    for number, screen in enumerate(screens):
        marks = [mark for row, line in enumerate(screen) for mark in _line(row, line)]
        lines += [f'<g id="f{number}">', *marks, "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _animation(seconds: Sequence[float]) -> Iterator[str]:
    """The rules that show one frame at a time, for ever."""
    if len(seconds) == 1:
        return
    total, start = sum(seconds), 0.0
    last = len(seconds) - 1
    yield f"g{{visibility:hidden}}#f{last}{{visibility:visible}}"
    yield "@media(prefers-reduced-motion:no-preference){"
    for number, length in enumerate(seconds):
        begin, end = 100 * start / total, 100 * (start + length) / total
        first = "" if number == 0 else "0%{visibility:hidden}"
        rule = f"{first}{begin:.2f}%{{visibility:visible}}{min(end, 100):.2f}%{{visibility:hidden}}"
        yield f"@keyframes k{number}{{{rule}}}"
        yield f"#f{number}{{animation:k{number} {total:g}s step-end infinite}}"
        start += length
    yield "}"


def _lines(ansi: str, columns: int) -> Iterator[Text]:
    """The lines of a screen of this width."""
    for line in Text.from_ansi(ansi).split("\n", allow_blank=True):
        line.rstrip()
        yield from line.divide(range(columns, len(line), columns))


def _line(row: int, line: Text) -> Iterator[str]:
    """One text element for each run of cells of one style; bars are rectangles, without gaps between them."""
    column, y = 0, BAR_H + MARGIN + row * CELL_H
    for segment in line.render(Console(width=400)):
        text, style = segment.text.rstrip("\n"), segment.style or Style()
        x = MARGIN + column * CELL_W
        column += len(text)
        if not text.strip():
            continue
        if set(text) <= set(SHADES):
            size = f'width="{len(text) * CELL_W:g}" height="{CELL_H - 4}"'
            paint = f'fill="{_hex(style.color)}" opacity="{SHADES[text[0]]}"'
            yield f'<rect x="{x:g}" y="{y + 2}" {size} {paint}/>'
            continue
        weight = ' font-weight="bold"' if style.bold else ""
        faint = ' opacity="0.6"' if style.dim else ""
        fill = f' fill="{_hex(style.color)}"' if style.color else ""
        look = f'textLength="{len(text) * CELL_W:g}"{fill}{weight}{faint}'
        yield f'<text x="{x:g}" y="{y + FONT_SIZE}" {look}>{escape(text, quote=False)}</text>'


def _hex(color: Color | None) -> str:
    return (color.get_truecolor(THEME) if color else THEME.foreground_color).hex
