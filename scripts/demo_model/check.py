"""Looks at a checkpoint with the JAX sampler: sums of the dev split, calculator calls, tool results, small talk.

It never touches the splits that are measured.
"""

import argparse
import random
import time
from collections import Counter
from pathlib import Path

import data
import model
import splits
import train
import vocabulary as v

FIXED = [
    "What is 847 * 293 + 156?", "what is 12*(3+4)^2/7", "What's 1234567890 - 987654321?", "Compute 3.5 * 2.25 - 1.",
    "2**10 % 7", "What is 111 + 111 + 111?", "How much is 15% of 80?", "Use the calculator to compute 99 x 99.",
]  # fmt: skip


def ask(text, start=(v.USER,)):
    return [v.BOS, *start, *v.encode(text), v.ASSISTANT]


def boxed(text):
    return text.rpartition("\\boxed{")[2].partition("}")[0]


def share(hits):
    return f"{sum(hits) / len(hits):.3f} ({sum(hits)}/{len(hits)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--problems", type=int, default=40, help="of each length")
    parser.add_argument("--votes", type=int, default=0, help="samples a problem for majority voting")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--calls", type=int, default=120)
    options = parser.parse_args()
    params = train.load(options.checkpoint)["params"]
    began = time.monotonic()

    for name in splits.TERMS:
        rows = [row for row in splits.read("dev") if row["id"].startswith(f"dev-{name}-")][: options.problems]
        prompts = [ask(row["question"]) for row in rows]
        answers = model.sample(params, prompts, 0.0, 1)
        print(name, "greedy", share([boxed(a) == row["answer"] for a, row in zip(answers, rows)]), flush=True)
        if not options.votes:
            continue
        drawn = model.sample(params, [p for p in prompts for _ in range(options.votes)], options.temperature, 2)
        said = [[boxed(a) for a in drawn[n : n + options.votes]] for n in range(0, len(drawn), options.votes)]
        print(name, "single", share([a == row["answer"] for group, row in zip(said, rows) for a in group]))
        budget = 2
        while budget <= options.votes:
            hits = [Counter(group[:budget]).most_common(1)[0][0] == row["answer"] for group, row in zip(said, rows)]
            print(name, f"majority@{budget}", share(hits), flush=True)
            budget *= 2

    rng = random.Random("check")
    pairs = [data.tool_question(rng) for _ in range(options.calls)]
    calls = model.sample(params, [ask(text, (v.TOOLS, v.USER)) for text, _ in pairs], options.temperature, 3)
    wanted = [f'{v.CALL_OPEN}\n{v.CALL_HEAD}{body}"}}}}\n{v.CALL_CLOSE}' for _, body in pairs]
    print("calls", share([a == b for a, b in zip(calls, wanted)]))
    for (text, _), got in [(p, a) for p, a, b in zip(pairs, calls, wanted) if a != b][:4]:
        print("  wrong:", repr(text), "->", repr(got[len(v.CALL_HEAD) :]))
    results = [data.tool_result(rng) for _ in range(options.calls)]
    texts = model.sample(params, [ask(text, (v.TOOL,)) for text, _ in results], options.temperature, 4)
    print("results", share([a == b for a, (_, b) in zip(texts, results)]))
    for (text, _), got in [(p, a) for p, a in zip(results, texts) if a != p[1]][:3]:
        print("  wrong:", repr(text), "->", repr(got))
    fixed = [ask(text, (v.TOOLS, v.USER)) for text in FIXED] + [ask("Hello, who are you?"), ask("What is 12 * 3?"), ask("")]
    for text, got in zip([*FIXED, "(chat)", "(chat)", "(chat)"], model.sample(params, fixed, options.temperature, 5)):
        print(" ", text, "->", repr(got.replace(v.CALL_HEAD, "…")))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
