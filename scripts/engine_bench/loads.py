"""The loads, and the figures that are taken of each. All prompts are new ones: what a server kept of earlier ones is of
no use to it, only what it shares within a load.
"""

import asyncio
import random
import time

from client import Arrivals, ask, complete, metric, read

# The same for all servers: llama-server's own defaults, spelled out.
SAMPLER = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}

SHORT_PROMPT = 64
SAMPLES = 8
SHARED_PROMPT = 1000
LONG_PROMPT = 4000
RUNNING_STREAMS = 4


def request(label, prompt_tokens, tokens, **more):
    """A request whose prompt is made from its label: as many digits, each a token, as the prompt shall have tokens."""
    drawn = random.Random(label)
    prompt = "".join(drawn.choices("0123456789", k=prompt_tokens))
    return {
        "model": "random-0.5b",
        "prompt": prompt,
        "max_tokens": tokens,
        "seed": drawn.randrange(1 << 31),
        **SAMPLER,
        **more,
    }


async def at_once(port, bodies):
    """Streams that are asked for at the same time; a prompt of any other length than asked for ends the measurement."""
    streams = await asyncio.gather(*(complete(port, body) for body in bodies))
    for stream, body in zip(streams, bodies, strict=True):
        if stream.prompt_tokens != len(body["prompt"]):
            raise SystemExit(f"a prompt of {len(body['prompt'])} tokens was read as {stream.prompt_tokens}")
    return streams


def rate(streams):
    """Tokens a second from the first request to the end of the last answer, the prompts' time included."""
    begun = min(stream.asked for stream in streams)
    ended = max(stream.ended for stream in streams)
    return sum(stream.completion_tokens for stream in streams) / (ended - begun)


def decode_rate(stream):
    """Tokens a second from the moment that every sample of a stream has begun."""
    begun = max(moments[0] for moments in stream.tokens.values())
    after = [moment for moment in stream.all_tokens() if moment > begun]
    return len(after) / (after[-1] - begun)


async def single(port, label, tokens):
    return rate(await at_once(port, [request(label, SHORT_PROMPT, tokens)]))


async def distinct(port, label, tokens):
    return rate(await at_once(port, [request(f"{label} {n}", SHORT_PROMPT, tokens) for n in range(SAMPLES)]))


async def samples(port, label, tokens):
    """Tokens a second of several samples of one prompt: from request to end, and of the decoding alone."""
    streams = await at_once(port, [request(label, SHORT_PROMPT, tokens, n=SAMPLES)])
    return rate(streams), decode_rate(streams[0])


async def shared(port, label, tokens):
    """The same prompt asked by several clients at once."""
    return rate(await at_once(port, [request(label, SHARED_PROMPT, tokens)] * SAMPLES))


async def long_prompt(port, label, prompt_tokens):
    """A long prompt arrives while streams run: their longest silence until its first token in seconds, how long that
    took, and what they had meanwhile in tokens a second.
    """
    running = [Arrivals() for _ in range(RUNNING_STREAMS)]
    bodies = [request(f"{label} {n}", SHORT_PROMPT, 2000) for n in range(RUNNING_STREAMS)]
    streams = [asyncio.create_task(complete(port, body, seen)) for body, seen in zip(bodies, running, strict=True)]
    try:
        await asyncio.gather(*(seen.runs.wait() for seen in running))
        arrived = time.perf_counter()
        stream = await complete(port, request(f"{label} long", prompt_tokens, 4))
    finally:
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    first = stream.tokens[0][0]
    longest, count = 0.0, 0
    for seen in running:
        tokens, _ = read(seen)
        # The last one before it and the first one after it are a pair, too.
        before = [moment for moment in tokens[0] if moment < arrived][-1:]
        meanwhile = [moment for moment in tokens[0] if arrived <= moment <= first]
        moments = [*before, *meanwhile, first]
        longest = max(longest, *(later - earlier for earlier, later in zip(moments, moments[1:], strict=False)))
        count += len(meanwhile)
    return longest, first - arrived, count / (first - arrived)


async def running_together(port, label, prompt_tokens, tokens):
    """How many samples of one prompt have begun before the first of them ends."""
    (stream,) = await at_once(port, [request(label, prompt_tokens, tokens, n=SAMPLES)])
    end = min(moments[-1] for moments in stream.tokens.values())
    return sum(moments[0] < end for moments in stream.tokens.values())


async def most_cells(port, label, prompt_tokens, tokens, count):
    """The most cells of the cache that so many samples of one prompt hold, as itsd's metrics tell."""
    asked = asyncio.create_task(at_once(port, [request(label, prompt_tokens, tokens, n=count)]))
    most = 0
    while not asked.done():
        most = max(most, await metric(port, "itsd_engine_kv_used"))
        await asyncio.sleep(0.05)  # the pause between two looks
    await asked
    return most


async def demo(port, clients, budget, seconds):
    """Tokens a second of the model that ships, asked a sum again and again; every candidate is waited for."""
    tokens = 0
    begun = time.perf_counter()

    async def asks(client):
        nonlocal tokens
        turn = 0
        while time.perf_counter() - begun < seconds:
            body = {
                "model": "arithmetic-demo",
                "messages": [{"role": "user", "content": "What is 23 + 48 - 17 + 66?"}],
                "temperature": 0.8,
                "alg": "self-consistency",
                "budget": budget,
                "stop_rule": "none",
                "seed": 1000 * client + turn,
            }
            answer = await ask(port, "/v1/chat/completions", body)
            tokens += answer["usage"]["completion_tokens"]
            turn += 1

    await asyncio.gather(*(asks(client) for client in range(clients)))
    return tokens / (time.perf_counter() - begun)
