"""Measures the in-process engine beside llama-server and llama-batched-bench, and prints a table: each figure with its
limit. itsd and the other take turns, and the median of the rounds' ratios counts: what makes the machine faster or slower
from one minute to the next does so for both. See `scripts/bench engine --help`.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import loads
import servers
from servers import ONE_SLOT, SHARED_CACHE, SPLIT_CACHE, Programs

LOADS = ("single", "distinct", "samples", "shared", "long-prompt", "memory", "demo")
DEMO = "arithmetic-demo"


def run(coroutine):
    return asyncio.run(coroutine)


def cpu_seconds():
    """CPU time that the machine has spent, and of that this program and those that it has started and that have ended."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(field) for field in fields)
    machine = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return machine, sum(os.times()[:4])


class Report:
    """Rows of a table, printed as they come."""

    def __init__(self):
        print("| figure | itsd | beside it | ratio or limit | |")
        print("|---|---:|---:|---:|---|", flush=True)

    def ratio(self, what, ours, theirs, least):
        """The figures of the rounds, side by side: their medians, and the median of their ratios, with the extremes."""
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        shown = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) ≥ {least:.2f}"
        self.row(what, median_rate(ours), median_rate(theirs), shown, "met" if ratio >= least else "not met")

    def row(self, what, ours, theirs="", limit="", verdict=""):
        print(f"| {what} | {ours} | {theirs} | {limit} | {verdict} |", flush=True)


def median_rate(rates):
    return f"{statistics.median(rates):.1f} tokens/s"


def take_turns(number, takers):
    """What each gives that takes a turn in this round. Who was the first in the last round is the last in this."""
    results = [None] * len(takers)
    for place in list(range(len(takers)))[:: 1 if number % 2 == 0 else -1]:
        results[place] = takers[place]()
    return results


def best_setting(programs, load, settings):
    """The setting with which llama-server is fastest under a load, tried once each, and the rates of all of them."""
    rates = {}
    for setting in settings:
        with servers.llama_server(programs, setting) as server:
            rates[setting] = run(load(server.port, f"trial {servers.words(setting)}"))
    best = max(rates, key=rates.get)
    tried = ", ".join(f"`{servers.words(setting)}` {rate:.1f}" for setting, rate in rates.items())
    return best, f"tried once: {tried}"


def compare(programs, rounds, load, settings):
    """Rounds of a load for itsd and for llama-server at its best setting: the rates of both, and what that setting is."""
    setting, tried = settings[0], ""
    if len(settings) > 1:
        setting, tried = best_setting(programs, load, settings)
    ours, theirs = [], []
    with servers.itsd(programs) as itsd, servers.llama_server(programs, setting) as peer:
        for number in range(rounds + 1):
            takers = [partial(run, load(side.port, f"round {number}")) for side in (itsd, peer)]
            figures = take_turns(number, takers)
            # The first round warms up.
            if number > 0:
                ours.append(figures[0])
                theirs.append(figures[1])
    name = f"llama-server `{servers.words(setting)}`"
    return ours, theirs, name, tried


def single(programs, options, report):
    def load(port, label):
        return loads.single(port, label, options.tokens)

    ours, theirs, name, _ = compare(programs, options.rounds, load, [ONE_SLOT])
    report.ratio(f"one stream of {options.tokens} tokens, beside {name}", ours, theirs, 0.95)


def distinct(programs, options, report):
    def load(port, label):
        return loads.distinct(port, label, options.tokens)

    ours, theirs, name, tried = compare(programs, options.rounds, load, [SHARED_CACHE, SPLIT_CACHE])
    what = f"{loads.SAMPLES} prompts at once, {options.tokens} tokens each, beside {name} ({tried})"
    report.ratio(what, ours, theirs, 0.95)


def samples(programs, options, report):
    """Three take turns here. llama-server takes part at the setting that is fastest for it."""

    async def rate(port, label):
        return (await loads.samples(port, label, options.tokens))[0]

    setting, tried = best_setting(programs, rate, [SHARED_CACHE, SPLIT_CACHE])
    rounds = []
    with servers.itsd(programs) as itsd, servers.llama_server(programs, setting) as peer:
        for number in range(options.rounds + 1):
            # Between the two, so that it stands next to each.
            takers = [
                partial(run, loads.samples(itsd.port, f"round {number}", options.tokens)),
                partial(servers.batched_bench, programs, loads.SHORT_PROMPT, options.tokens, loads.SAMPLES),
                partial(run, loads.samples(peer.port, f"round {number}", options.tokens)),
            ]
            figures = take_turns(number, takers)
            if number > 0:
                rounds.append(figures)
    ours, bare_rates, theirs = zip(*rounds, strict=True)
    rates, decode_rates = zip(*ours, strict=True)
    peer_rates, peer_decode_rates = zip(*theirs, strict=True)
    what = f"one prompt × {loads.SAMPLES} samples of {options.tokens} tokens"
    report.ratio(f"{what}, decoding, beside llama-batched-bench `-pps`", decode_rates, bare_rates, 0.90)
    name = f"llama-server `{servers.words(setting)}` with `n` ({tried})"
    report.ratio(f"{what}, beside {name}", rates, peer_rates, 1.0)
    report.row("— the same, decoding", median_rate(decode_rates), median_rate(peer_decode_rates))


def shared(programs, options, report):
    tokens = options.tokens // 3

    def load(port, label):
        return loads.shared(port, label, tokens)

    ours, theirs, name, tried = compare(programs, options.few_rounds, load, [ONE_SLOT, SHARED_CACHE, SPLIT_CACHE])
    what = f"{loads.SAMPLES} requests at once with one prompt of {loads.SHARED_PROMPT} tokens, {tokens} tokens each"
    report.ratio(f"{what}, beside {name} ({tried})", ours, theirs, 1.5)


def long_prompt(programs, options, report):
    with servers.itsd(programs) as itsd, servers.llama_server(programs, SHARED_CACHE) as peer:
        rounds = []
        for number in range(options.few_rounds + 1):
            # The warm-up needs no prompt as long as that.
            prompt = loads.LONG_PROMPT if number > 0 else loads.SHORT_PROMPT
            figures = [run(loads.long_prompt(port, f"round {number}", prompt)) for port in (itsd.port, peer.port)]
            if number > 0:
                rounds.append(figures)
    ours, theirs = zip(*rounds, strict=True)
    # One long silence is one too many, so that the longest of all rounds counts.
    worst, peer_worst = (1000 * max(figures[0] for figures in side) for side in (ours, theirs))
    what = f"longest gap of {loads.RUNNING_STREAMS} streams while a prompt of {loads.LONG_PROMPT} tokens is read"
    verdict = "met" if worst <= 150 else "not met"
    report.row(what, f"{worst:.0f} ms", f"{peer_worst:.0f} ms", "≤ 150 ms", verdict)
    for what, field, unit in [("— until that prompt's first token", 1, "s"), ("— the streams meanwhile", 2, "tokens/s")]:
        medians = [statistics.median(figures[field] for figures in side) for side in (ours, theirs)]
        report.row(what, f"{medians[0]:.1f} {unit}", f"{medians[1]:.1f} {unit}")


def memory(programs, options, report):
    """Whether a sample of a shared prompt takes cells for its own tokens alone: by what itsd says that it holds, and in
    a cache that has room for nothing else, where all of them run at once.
    """
    tokens = options.tokens // 3
    with servers.itsd(programs) as itsd:

        def most_cells(count):
            return run(loads.most_cells(itsd.port, f"{count} samples", loads.SHARED_PROMPT, tokens, count))

        # The first run warms up; prompts that are kept count as well, so that only the difference tells.
        most_cells(1)
        each = (most_cells(loads.SAMPLES) - most_cells(1)) / (loads.SAMPLES - 1)
    what = f"cells of each further sample of a prompt of {loads.SHARED_PROMPT} tokens, {tokens} tokens each"
    report.row(what, f"{each:.1f}", "", f"≤ {tokens}", "met" if each <= tokens else "not met")

    needed = loads.SHARED_PROMPT + loads.SAMPLES * tokens
    # A cache has a multiple of 256 cells.
    cells = -(-needed // 256) * 256
    with servers.itsd(programs, cells) as itsd:
        ours = run(loads.running_together(itsd.port, "memory", loads.SHARED_PROMPT, tokens))
    with servers.llama_server(programs, SHARED_CACHE, cells) as peer:
        theirs = run(loads.running_together(peer.port, "memory", loads.SHARED_PROMPT, tokens))
    what = f"of {loads.SAMPLES} of them, those that run at once in {cells} cells, the prompt included"
    report.row(what, ours, theirs, f"≥ {loads.SAMPLES}", "met" if ours >= loads.SAMPLES else "not met")


def demo(programs, options, report):
    shipped = replace(programs, model=Path(__file__).resolve().parents[2] / "models" / f"{DEMO}.gguf")
    with servers.itsd(replace(shipped, threads=None, cells=None)) as itsd:
        for clients, budget in [(1, 1), (1, 16), (8, 16), (1, 64)]:
            seconds = 1 if options.quick else 4
            rates = [run(loads.demo(itsd.port, clients, budget, seconds)) for _ in range(options.few_rounds + 1)][1:]
            asked = "1 client" if clients == 1 else f"{clients} clients"
            what = f"the model that ships, {asked}, budget {budget}, `stop_rule` `none`"
            report.row(what, f"{statistics.median(rates):.0f} tokens/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for program in ("itsd", "llama-server", "batched-bench", "model"):
        parser.add_argument(f"--{program}", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=LOADS, action="append")
    options = parser.parse_args()
    # More of them where a figure is close to its limit.
    options.rounds, options.few_rounds = (1, 1) if options.quick else (5, 3)
    options.tokens = 48 if options.quick else 192
    programs = Programs(
        itsd=options.itsd.resolve(),
        llama_server=options.llama_server.resolve(),
        batched_bench=options.batched_bench.resolve(),
        model=options.model.resolve(),
        threads=options.threads,
        batch=512,
        cells=16384,
    )
    # Told to end, it leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    begun, (machine, own) = time.monotonic(), cpu_seconds()
    for load in options.only or LOADS:
        {
            "single": single,
            "distinct": distinct,
            "samples": samples,
            "shared": shared,
            "long-prompt": long_prompt,
            "memory": memory,
            "demo": demo,
        }[load](programs, options, report)
    # Threads of one evaluation wait for each other: where others take a core from one, all of them stand still.
    machine_now, own_now = cpu_seconds()
    others = (machine_now - machine) - (own_now - own)
    share = 100 * others / (os.cpu_count() * (time.monotonic() - begun))
    print(f"\nOther programs took {max(share, 0):.0f} % of the machine meanwhile; above a few, the figures say little.")


if __name__ == "__main__":
    main()
