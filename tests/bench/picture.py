"""Pictures of figures, as SVG: bars beside each other, and curves. Plain text, so that they can be read and compared.

    bars("server CPU, µs a request", [("304, fresh", [("updraftd", 17.2), ("nginx", 22.5)]), …])
    curves("what a check costs", "devices", "µs", True, [("updraftd", [(1000, 6.6), (1000000, 7.1)]), …])

Both return the whole file's text. A name keeps its colour through all groups of one picture."""

import math
from xml.sax.saxutils import escape

COLOURS = ["#0b6e99", "#c2671f", "#7d8790", "#3f8f4f", "#8d4fa3", "#b03a48", "#8a7a1f", "#222222"]
STYLE = ("text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}.head{font-weight:bold}"
         ".axis{stroke:#999}.grid{stroke:#e4e4e4}")
WIDTH, MARGIN = 760, 24


def text(x, y, words, anchor="start", kind="words"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(str(words))}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def whole(title, height, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
            '<rect width="100%" height="100%" fill="#fff"/>')
    return "\n".join([head, text(MARGIN, 28, title, kind="title"), *parts, "</svg>", ""])


def number(value):
    """Three digits that count, and the short form of thousands."""
    if value >= 999_500:
        return f"{value / 1e6:.3g}M"
    if value >= 10_000 or (value >= 1000 and value % 1000 == 0):
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def colours_of(names):
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def bars(title, groups):
    """Lying bars on one scale from zero. groups: [(name, [(bar's name, value), …]), …]"""
    bar, room, left, right = 16, 5, 230, 70
    colours = colours_of(name for _, members in groups for name, _ in members)
    longest = max((value for _, members in groups for _, value in members), default=0) or 1
    parts, y = [], 48
    for group, members in groups:
        parts.append(text(MARGIN, y + 12, group, kind="head"))
        y += 20
        for name, value in members:
            width = value / longest * (WIDTH - left - right)
            parts += [text(left - 8, y + 12, name, "end"),
                      f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar}" fill="{colours[name]}"/>',
                      text(left + width + 6, y + 12, number(value))]
            y += bar + room
        y += 10
    return whole(title, y + 8, parts)


def linear_ticks(least, most):
    """Some five round numbers that enclose the values."""
    span = most - least or abs(most) or 1
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(least / step), math.ceil(most / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def decades(least, most):
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0 ** i for i in range(first, max(last, first + 1) + 1)]


def scale(ticks, low, high, log):
    """From a value to its place between low and high."""
    place = math.log10 if log else float
    first, last = place(ticks[0]), place(ticks[-1])
    return lambda value: low + (place(value) - first) / (last - first) * (high - low)


def legend(names, colours, x, y):
    parts = []
    for i, name in enumerate(names):
        parts += [f'<rect x="{x}" y="{y + 18 * i - 9}" width="12" height="12" fill="{colours[name]}"/>',
                  text(x + 18, y + 18 * i + 1, name)]
    return parts


def curves(title, x_label, y_label, log_x, series):
    """Curves over one x, which is logarithmic if log_x; y begins at zero. series: [(name, [(x, y), …]), …]"""
    left, right, top, bottom = 76, 570, 56, 360
    points = [point for _, mine in series for point in mine]
    xs = [x for x, _ in points]
    x_ticks = decades(min(xs), max(xs)) if log_x else linear_ticks(min(xs), max(xs))
    y_ticks = linear_ticks(0, max(y for _, y in points))
    x_at, y_at = scale(x_ticks, left, right, log_x), scale(y_ticks, bottom, top, False)
    parts = []
    for tick in y_ticks:
        y = y_at(tick)
        parts += [line(left, y, right, y, "grid"), text(left - 8, y + 4, number(tick), "end")]
    for tick in x_ticks:
        x = x_at(tick)
        parts += [line(x, top, x, bottom, "grid"), text(x, bottom + 18, number(tick), "middle")]
    parts += [line(left, bottom, right, bottom, "axis"), line(left, top, left, bottom, "axis"),
              text((left + right) / 2, bottom + 40, x_label, "middle"), text(left, top - 8, y_label)]
    colours = colours_of(name for name, _ in series)
    for name, mine in series:
        places = [(x_at(x), y_at(y)) for x, y in sorted(mine)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places]
    return whole(title, bottom + 60, parts + legend([name for name, _ in series], colours, right + 20, top + 8))
