"""Writes the published problem sets under models/splits, always the same ones.

`easy`, `hard` and `long` are for measuring and nothing else; `dev` is for looking at while working.
`tools` holds questions for the tool-calling task. Training leaves every problem of these files out.
"""

import json
import random
from pathlib import Path

import data

FOLDER = Path(__file__).resolve().parents[2] / "models" / "splits"
SEED = 20261120
TERMS = {"easy": (3,), "hard": (5, 6), "long": (8,)}
COUNT = 500
DEV_COUNT = 100


def problems(rng, terms, count, seen, prefix):
    """`count` different sums of the wanted lengths, none of them in `seen`."""
    rows = []
    while len(rows) < count:
        size = terms[len(rows) % len(terms)]
        numbers, signs = data.sum_terms(rng, size)
        expression = data.write_sum(numbers, signs)
        if expression in seen:
            continue
        seen.add(expression)
        answer = numbers[0] + sum(s * n for s, n in zip(signs, numbers[1:]))
        rows.append(
            {"id": f"{prefix}-{len(rows) + 1:03}", "question": f"What is {expression}?", "answer": str(answer)}
        )
    return rows


def write(name, rows):
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / f"{name}.jsonl").write_text(text, encoding="utf-8")


def read(name):
    with open(FOLDER / f"{name}.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def held_out():
    """The expressions of every published problem, which training must not see."""
    sums = {row["question"].removeprefix("What is ").removesuffix("?") for name in (*TERMS, "dev") for row in read(name)}
    return sums | {row["expression"] for row in read("tools")}


def main():
    rng = random.Random(SEED)
    seen = set()
    for name, terms in TERMS.items():
        write(name, problems(rng, terms, COUNT, seen, name))
    dev = []
    for name, terms in TERMS.items():
        dev += problems(rng, terms, DEV_COUNT, seen, f"dev-{name}")
    write("dev", dev)
    tools = []
    for n in range(COUNT):
        question, expression = data.tool_question(rng)
        tools.append({"id": f"tools-{n + 1:03}", "question": question, "expression": expression})
    write("tools", tools)


if __name__ == "__main__":
    main()
