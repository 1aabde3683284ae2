"""Tables of figures, in Markdown."""

import statistics

NAMES = {"case", "server", "ours against", "what", "attack", "door", "finding", "severity", "expected",
         "answers that it read", "counted"}


def markdown_table(heads, rows):
    """Names to the left, figures to the right."""
    rule = ["---" if head in NAMES else "---:" for head in heads]
    return ["| " + " | ".join(cells) + " |" for cells in [heads, rule, *rows]]


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def with_range(figure, form="{:.2f}"):
    return "{} [{}-{}]".format(*(form.format(figure[key]) for key in ("median", "least", "most")))
