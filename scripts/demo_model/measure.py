"""Measures accuracy against budget through a running daemon and writes models/accuracy.json.

Every figure is of real requests, as a user would send them: each budget asks for its own votes, and
the answer that counts is the one in the reply. Needs nothing but Python. What has been measured is kept
under work/, one file for each version of the model, so a run that was stopped goes on where it was.
"""

import argparse
import concurrent.futures
import hashlib
import json
import math
import random
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
MODEL = "arithmetic-demo"
TEMPERATURE = 0.8
BUDGETS = (1, 2, 4, 8, 16, 32)
SPLITS = ("easy", "hard", "long")
RESAMPLES = 10_000

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Works out an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


def post(url, body, key=None, tries=40):
    """The JSON answer to a JSON request; waits and tries again while the daemon says it is busy."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    for turn in range(tries):
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code not in (429, 503) or turn == tries - 1:
                raise SystemExit(f"{url} answered {error.code}: {text}") from error
            wait = error.headers.get("Retry-After", "")
            time.sleep(min(float(wait) if wait.isdigit() else 1.0, 30.0))


def boxed(text):
    return (text or "").rpartition("\\boxed{")[2].partition("}")[0].strip()


def read(name):
    with open(MODELS / "splits" / f"{name}.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ask_sum(options, row, index, budget):
    """Whether the reply's answer is right, and whether any of the samples behind it is."""
    reply = post(
        f"{options.base}/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": row["question"]}],
            "budget": budget,
            "temperature": TEMPERATURE,
            "seed": options.seed + index,  # the problems' samples are independent of each other
            "stop_rule": "none",
            "return_response_only": False,
        },
        options.key,
    )
    answer = boxed(reply["choices"][0]["message"]["content"])
    responses = (reply.get("metadata") or {}).get("responses") or []
    texts = [r["content"] if isinstance(r, dict) else r for r in responses]
    if budget > 1 and len(texts) != budget:
        raise SystemExit(f"{row['id']}: asked for {budget} samples, the daemon tells of {len(texts)}")
    right = answer == row["answer"]
    return {"right": right, "any": right or any(boxed(text) == row["answer"] for text in texts)}


def ask_call(options, row, index, _budget):
    """Whether the calculator is called with the very expression of the question."""
    reply = post(
        f"{options.base}/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": row["question"]}],
            "tools": [CALCULATOR],
            "budget": 1,
            "temperature": TEMPERATURE,
            "seed": options.seed + index,
        },
        options.key,
    )
    calls = reply["choices"][0]["message"].get("tool_calls") or []
    try:
        told = json.loads(calls[0]["function"]["arguments"])["expression"] if len(calls) == 1 else None
    except (ValueError, KeyError, TypeError):
        told = None
    right = told == row["expression"]
    return {"right": right, "any": right}


def wilson(right, count, z=1.959964):
    """The 95 % interval of a share."""
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def figure(hits):
    right = sum(hits)
    return {"right": right, "problems": len(hits), "accuracy": round(right / len(hits), 4), "interval_95": wilson(right, len(hits))}


def gain(before, after):
    """The paired difference of two runs over the same problems, with a bootstrap interval."""
    differences = [int(b) - int(a) for a, b in zip(before, after)]
    rng = random.Random(1)
    count = len(differences)
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    return {
        "difference": round(sum(differences) / count, 4),
        "interval_95": [round(means[int(0.025 * RESAMPLES)], 4), round(means[int(0.975 * RESAMPLES)], 4)],
        "problems": count,
        "mended": differences.count(1),
        "spoiled": differences.count(-1),
        "method": f"paired bootstrap over problems, {RESAMPLES} resamples",
    }


def measure(options, known, log):
    """Asks whatever is not known yet; `known` maps (split, budget, problem) to the outcome."""
    tasks = []
    for split in options.splits:
        for budget in options.budgets if split != "tools" else (1,):
            for index, row in enumerate(read(split)[: options.problems]):
                if (split, budget, row["id"]) not in known:
                    tasks.append((split, budget, index, row))
    lock = threading.Lock()
    began = time.monotonic()

    def work(task):
        split, budget, index, row = task
        outcome = (ask_call if split == "tools" else ask_sum)(options, row, index, budget)
        with lock:
            known[split, budget, row["id"]] = outcome
            log.write(json.dumps({"split": split, "budget": budget, "id": row["id"], **outcome}) + "\n")
            log.flush()

    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        for done, _ in enumerate(pool.map(work, tasks), 1):
            if done % 250 == 0 or done == len(tasks):
                split, budget, _, _ = tasks[done - 1]
                print(f"{done}/{len(tasks)} requests, {time.monotonic() - began:.0f} s ({split}, budget {budget})", flush=True)


def write_table(report):
    """Puts the figures into models/README.md, between its two marks."""
    path = MODELS / "README.md"
    before, mark, rest = path.read_text(encoding="utf-8").partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- /figures -->")
    if not mark or not end:
        return
    budgets = sorted({int(b) for part in report["splits"].values() for b in part["budgets"]})
    lines = [
        f"Self-consistency at temperature {report['temperature']}: the share of 500 problems answered right, by budget.",
        "",
        "| problems | " + " | ".join(map(str, budgets)) + " | 16 over 1 |",
        "|---" * (len(budgets) + 2) + "|",
    ]
    for name, part in report["splits"].items():
        cells = [f"{100 * part['budgets'][str(b)]['accuracy']:.1f} %" for b in budgets]
        more = part.get("gain_of_16_over_1")
        low, high = more["interval_95"] if more else (0, 0)
        cells.append(f"{100 * more['difference']:+.1f} points ({100 * low:.1f} to {100 * high:.1f})" if more else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if "tool_calls" in report:
        calls = report["tool_calls"]
        lines += ["", f"Calculator calls with the very expression of the question, one sample: {calls['right']} of {calls['problems']}."]
    path.write_text(before + mark + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="http://127.0.0.1:8108", help="where the daemon listens")
    parser.add_argument("--key", help="the daemon's own API key, where it wants one")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--splits", type=lambda text: text.split(","), default=[*SPLITS, "tools"])
    parser.add_argument("--budgets", type=lambda text: [int(n) for n in text.split(",")], default=list(BUDGETS))
    parser.add_argument("--problems", type=int, default=None, help="only the first so many of each split: a trial, nothing is written")
    parser.add_argument("--parallel", type=int, default=4, help="requests in flight")
    options = parser.parse_args()
    options.base = options.base.rstrip("/")

    digest = hashlib.sha256((MODELS / f"{MODEL}.gguf").read_bytes()).hexdigest()
    settings = {
        "provider": "llama", "endpoint": "auto", "model": MODEL, "alg": "self-consistency",
        "budget": 16, "temperature": TEMPERATURE, "stop_rule": "none",
    }  # fmt: skip
    post(f"{options.base}/configure", settings, options.key)

    kept = HERE / "work" / f"measured-{digest[:12]}-{options.seed}.jsonl"
    kept.parent.mkdir(exist_ok=True)
    known = {}
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[row["split"], row["budget"], row["id"]] = {"right": row["right"], "any": row["any"]}
    with open(kept, "a", encoding="utf-8") as log:
        measure(options, known, log)

    report = {
        "model": {"file": f"models/{MODEL}.gguf", "sha256": digest},
        "algorithm": "self-consistency",
        "temperature": TEMPERATURE,
        "seed": options.seed,
        "intervals": "Wilson, 95 %",
        "splits": {},
    }
    for split in options.splits:
        rows = read(split)[: options.problems]
        taken = lambda budget, what: [known[split, budget, row["id"]][what] for row in rows]
        if split == "tools":
            report["tool_calls"] = figure(taken(1, "right"))
            print("tool calls", report["tool_calls"])
            continue
        part = {"budgets": {}}
        for budget in options.budgets:
            part["budgets"][str(budget)] = {**figure(taken(budget, "right")), "any_sample_right": sum(taken(budget, "any"))}
            print(split, budget, part["budgets"][str(budget)])
        if {1, 16} <= set(options.budgets):
            part["gain_of_16_over_1"] = gain(taken(1, "right"), taken(16, "right"))
            print(split, "16 over 1", part["gain_of_16_over_1"])
        report["splits"][split] = part
    if options.problems is None:
        write_table(report)
        (MODELS / "accuracy.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
