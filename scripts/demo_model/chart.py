"""Draws docs/images/accuracy-{light,dark}.svg from models/accuracy.json, with nothing but Python."""

import json
import math
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 152, 78, 62
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
LABELS = {"easy": ("easy", "3 terms"), "hard": ("hard", "5–6 terms"), "long": ("long", "8 terms")}
THEMES = {
    "light": {
        "ground": "#ffffff", "ink": "#1f2328", "soft": "#59636e", "grid": "#d8dee4", "band": "0.14",
        "easy": "#1a7f37", "hard": "#0969da", "long": "#bc4c00",
    },
    "dark": {
        "ground": "#0d1117", "ink": "#e6edf3", "soft": "#9198a1", "grid": "#2b323b", "band": "0.20",
        "easy": "#3fb950", "hard": "#58a6ff", "long": "#f0883e",
    },
}  # fmt: skip


def spread(places, gap, low, high):
    """Moves label heights apart until neighbours are `gap` away from each other, as little as possible."""
    order = sorted(range(len(places)), key=lambda n: places[n])
    moved = list(places)
    for _ in range(200):
        for a, b in zip(order, order[1:]):
            short = gap - (moved[b] - moved[a])
            if short > 0:
                moved[a] -= short / 2
                moved[b] += short / 2
        moved = [min(max(y, low), high) for y in moved]
    return moved


def draw(report, theme):
    colours = THEMES[theme]
    splits = report["splits"]
    budgets = sorted({int(b) for part in splits.values() for b in part["budgets"]})
    x0, x1, y0, y1 = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    last = math.log2(budgets[-1]) or 1.0
    x = lambda budget: x0 + (x1 - x0) * math.log2(budget) / last
    y = lambda share: y0 + (y1 - y0) * share
    problems = next(iter(next(iter(splits.values()))["budgets"].values()))["problems"]
    out = []

    def text(at_x, at_y, what, size=13, fill="ink", anchor="start", weight=400):
        out.append(
            f'<text x="{at_x:.1f}" y="{at_y:.1f}" font-size="{size}" fill="{colours[fill]}"'
            f' text-anchor="{anchor}" font-weight="{weight}">{escape(what)}</text>'
        )

    out.append(f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{colours["ground"]}"/>')
    text(x0, 32, "Accuracy against budget", 18, weight=600)
    about = f"self-consistency, temperature {report['temperature']}, {problems} problems a line, bands: 95 % intervals"
    text(x0, 53, about, 13, "soft")
    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        out.append(f'<line x1="{x0}" x2="{x1}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colours["grid"]}"/>')
        text(x0 - 12, at + 4.5, f"{tenth * 10} %", 13, "soft", "end")
    for budget in budgets:
        text(x(budget), y0 + 24, str(budget), 13, "soft", "middle")
    text((x0 + x1) / 2, y0 + 48, "samples a question (budget)", 13, "soft", "middle")

    ends = []
    for name, part in splits.items():
        points = [(x(b), part["budgets"][str(b)]) for b in budgets]
        upper = [f"{at:.1f},{y(p['interval_95'][1]):.1f}" for at, p in points]
        lower = [f"{at:.1f},{y(p['interval_95'][0]):.1f}" for at, p in reversed(points)]
        out.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colours[name]}" fill-opacity="{colours["band"]}"/>')
        ends.append(y(points[-1][1]["accuracy"]))
    for name, part in splits.items():
        points = [(x(b), y(part["budgets"][str(b)]["accuracy"])) for b in budgets]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        out.append(
            f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2.5"'
            ' stroke-linejoin="round" stroke-linecap="round"/>'
        )
        for a, b in points:
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colours[name]}" stroke="{colours["ground"]}" stroke-width="1.5"/>')
    for (name, part), end, at in zip(splits.items(), ends, spread(ends, 36, y1 + 2, y0)):
        word, terms = LABELS.get(name, (name, ""))
        out.append(
            f'<path d="M{x1 + 7:.1f} {end:.1f} L{x1 + 16:.1f} {at:.1f}" stroke="{colours[name]}" stroke-opacity="0.6" fill="none"/>'
        )
        share = part["budgets"][str(budgets[-1])]["accuracy"]
        text(x1 + 21, at - 1, f"{word}  {100 * share:.1f} %", 14, name, weight=600)
        text(x1 + 21, at + 14, terms, 12, "soft")

    summary = "; ".join(
        f"{name}: {100 * part['budgets'][str(budgets[0])]['accuracy']:.1f} % at budget {budgets[0]},"
        f" {100 * part['budgets'][str(budgets[-1])]['accuracy']:.1f} % at {budgets[-1]}"
        for name, part in splits.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' font-family="{escape(FONT)}" role="img" aria-labelledby="title">\n<title id="title">Accuracy against budget. '
        f"{escape(summary)}</title>\n" + "\n".join(out) + "\n</svg>\n"
    )


def main():
    report = json.loads((ROOT / "models" / "accuracy.json").read_text(encoding="utf-8"))
    folder = ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        (folder / f"accuracy-{theme}.svg").write_text(draw(report, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
