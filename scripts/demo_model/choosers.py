"""Compares ways to spend one budget on the demonstration model, through a running daemon.

    python3 scripts/demo_model/choosers.py --base http://127.0.0.1:8108

Every way gets the same problems and seeds, so that the rows of the table differ in how the answer is chosen and in little
else. Prints a table in Markdown and writes nothing. It leaves the daemon's configuration alone: each request says all of it.
"""

import argparse
import concurrent.futures

from measure import MODEL, TEMPERATURE, boxed, post, read, wilson


def scored_by(rm_name, rm_agg_method):
    return {"alg": "best-of-n", "rm_name": rm_name, "rm_agg_method": rm_agg_method}


def searched_by(alg, rm_name, rm_agg_method):
    return {"alg": alg, "rm_name": rm_name, "rm_agg_method": rm_agg_method}


WAYS = {
    "one sample": {"alg": "none"},
    "self-consistency": {"alg": "self-consistency"},
    "`perplexity`, `model`": scored_by("perplexity", "model"),
    "`sequence_prob`, `model`": scored_by("sequence_prob", "model"),
    "`entropy`, `min`": scored_by("entropy", "min"),
    "`self_certainty`, `last`": scored_by("self_certainty", "last"),
    "particle filtering, `perplexity`, `model`": searched_by("particle-filtering", "perplexity", "model"),
    "beam search, `perplexity`, `model`": searched_by("beam-search", "perplexity", "model"),
    "beam search, `entropy`, `min`": searched_by("beam-search", "entropy", "min"),
}


def ask(options, way, row, index):
    reply = post(
        f"{options.base}/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": row["question"]}],
            "temperature": TEMPERATURE,
            "seed": options.seed + index,
            "budget": options.budget,
            **way,
        },
    )
    return boxed(reply["choices"][0]["message"]["content"]) == row["answer"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="http://127.0.0.1:8108", help="where the daemon listens")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--split", default="hard")
    parser.add_argument("--problems", type=int, default=60, help="the first so many of the split")
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--parallel", type=int, default=4, help="requests in flight")
    options = parser.parse_args()
    options.base = options.base.rstrip("/")

    rows = read(options.split)[: options.problems]
    print("| way | right | 95 % interval |\n|---|---:|---|", flush=True)
    for name, way in WAYS.items():
        with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
            right = sum(pool.map(lambda at: ask(options, way, at[1], at[0]), enumerate(rows)))
        low, high = wilson(right, len(rows))
        share = f"{right} of {len(rows)}, {100 * right / len(rows):.0f} %"
        print(f"| {name} | {share} | {100 * low:.0f} to {100 * high:.0f} |", flush=True)


if __name__ == "__main__":
    main()
