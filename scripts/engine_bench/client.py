"""Streams of completions over bare sockets, each token with the moment at which it arrived.

Bytes are only kept while a stream runs, and read when it has ended, so that the client takes next to nothing from the
cores that it shares with what it measures.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass
class Stream:
    """An answer as it came. Times are seconds of one clock."""

    asked: float
    ended: float
    # For each choice, when each of its tokens arrived.
    tokens: dict[int, list[float]]
    prompt_tokens: int
    completion_tokens: int

    def all_tokens(self):
        return sorted(moment for moments in self.tokens.values() for moment in moments)


@dataclass
class Arrivals:
    """What of a stream is here so far."""

    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    # Set when this many chunks are here: enough to know that the stream runs.
    wanted: int = 8
    runs: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, chunk):
        self.chunks.append((time.perf_counter(), chunk))
        if len(self.chunks) == self.wanted:
            self.runs.set()


async def complete(port, body, arrivals=None):
    """Asks for a streamed completion and reads it to its end."""
    arrivals = arrivals or Arrivals()
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    asked = time.perf_counter()
    await post(port, "/v1/completions", body, arrivals)
    ended = time.perf_counter()
    tokens, usages = read(arrivals)
    if not usages:
        raise SystemExit("a stream ended without its usage")
    # llama-server tells it of each choice with that choice's end, others of all choices at the end of the stream.
    count = sum(usage["completion_tokens"] for usage in usages)
    expected = body["max_tokens"] * body.get("n", 1)
    if count != expected:
        raise SystemExit(f"{count} tokens came instead of {expected}: an answer ended early")
    return Stream(asked, ended, tokens, usages[-1]["prompt_tokens"], count)


def read(arrivals):
    """When the tokens of each choice arrived, and the usage as often as it was told."""
    tokens, usages = {}, []
    for moment, event in events(arrivals.chunks):
        if event.get("error"):
            raise SystemExit(f"a stream ended with an error: {event['error']}")
        for choice in event.get("choices", []):
            if choice.get("text"):
                tokens.setdefault(choice.get("index", 0), []).append(moment)
        if event.get("usage"):
            usages.append(event["usage"])
    return tokens, usages


def events(chunks):
    """The events of a stream, each at the moment at which its last byte came."""
    rest = b""
    for moment, chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield moment, json.loads(line[len(b"data: ") :])


async def post(port, path, body, arrivals):
    """Posts JSON on a connection of its own, or without a body gets what is there; the answer's body goes to `arrivals`
    piece by piece.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        status = await reader.readline()
        length, chunked = 0, False
        while (line := (await reader.readline()).strip().lower()) != b"":
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            chunked |= name == b"transfer-encoding" and value.strip() == b"chunked"
        if status.split(b" ")[1] != b"200":
            told = await reader.read(2000)
            raise SystemExit(f"{path} answered {status.decode().strip()}: {told.decode(errors='replace')}")
        if not chunked:
            arrivals.add(await reader.readexactly(length))
        while chunked:
            size = int(await reader.readline(), 16)
            chunk = await reader.readexactly(size + 2)
            if size == 0:
                break
            arrivals.add(chunk[:-2])
    finally:
        writer.close()


async def ask(port, path, body):
    """The whole JSON answer to a JSON request."""
    arrivals = Arrivals()
    await post(port, path, body, arrivals)
    return json.loads(b"".join(chunk for _, chunk in arrivals.chunks))


async def metric(port, name):
    """The value of a gauge of itsd's."""
    arrivals = Arrivals()
    await post(port, "/metrics", None, arrivals)
    text = b"".join(chunk for _, chunk in arrivals.chunks).decode()
    values = [line.split(" ")[1] for line in text.splitlines() if line.startswith(f"{name} ")]
    if not values:
        raise SystemExit(f"/metrics does not tell {name}")
    return float(values[0])
