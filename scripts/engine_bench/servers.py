"""The programs that are measured: itsd and llama-server on ports of their own, and llama-batched-bench."""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

# Of the server that is compared with, those that matter: how many slots it has, and whether they share one cache.
ONE_SLOT = ("-np", "1")
SHARED_CACHE = ("-np", "8", "--kv-unified")
SPLIT_CACHE = ("-np", "8", "--no-kv-unified")


@dataclass(frozen=True)
class Programs:
    """Where the programs are, and what all of them are run with."""

    itsd: Path
    llama_server: Path
    batched_bench: Path
    model: Path
    threads: int | None
    batch: int
    cells: int | None


class Server:
    """A server that runs and is ready."""

    def __init__(self, port):
        self.port = port


def words(setting):
    return " ".join(setting)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def itsd(programs, cells=None, **fields):
    """itsd with one local model; `fields` beside it in the configuration."""
    state = Path(tempfile.mkdtemp(prefix="itsd-bench-"))
    llama = {"threads": programs.threads, "batch_tokens": programs.batch, "context_tokens": cells or programs.cells}
    settings = {
        "models": {"dirs": [str(programs.model.parent.resolve())]},
        # What is left open is up to itsd.
        "llama": {name: value for name, value in llama.items() if value is not None},
        "active": {"provider": "llama", "model": programs.model.stem, "alg": "none", **fields},
    }
    (state / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    port = free_port()
    command = [programs.itsd, "serve", "--port", port, "--config", state / "settings.json"]
    command += ["--state-dir", state, "--port-file", state / "port"]
    with running(command, port, "/ready", state) as server:
        yield server


@contextlib.contextmanager
def llama_server(programs, setting, cells=None):
    """llama-server with the same model, threads, batch and cells."""
    state = Path(tempfile.mkdtemp(prefix="itsd-bench-"))
    port = free_port()
    command = [programs.llama_server, "--host", "127.0.0.1", "--port", port, "--no-webui"]
    command += common(programs, cells or programs.cells) + list(setting)
    with running(command, port, "/health", state) as server:
        yield server


def common(programs, cells):
    """What llama.cpp's own programs are told alike."""
    options = ["-m", programs.model, "-t", programs.threads, "-tb", programs.threads, "-c", cells]
    return options + ["-b", programs.batch, "-ub", programs.batch, "-ngl", 999, "-fit", "off"]


def batched_bench(programs, prompt, tokens, samples):
    """Tokens a second that llama.cpp itself decodes in batches, nobody drawing any, after one shared prompt."""
    command = [programs.batched_bench, *common(programs, programs.cells), "-pps", "--kv-unified"]
    command += ["-npp", prompt, "-ntg", tokens, "-npl", samples, "--output-format", "jsonl"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            return json.loads(line)["speed_tg"]
    raise SystemExit(f"llama-batched-bench gave no figures: {done.stderr[-2000:]}")


@contextlib.contextmanager
def running(command, port, path, state):
    """The command in the background, once it says that it is ready; its directory goes with it."""
    log = state / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=state
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}{path}", log)
        yield Server(port)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(state)


def wait_until_ready(process, url, log):
    deadline = time.monotonic() + 120
    # What runs on this machine is reached directly, whatever proxy the network wants.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with contextlib.suppress(OSError), opener.open(url, timeout=5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"{process.args[0]} did not start: {tail}")
        time.sleep(0.1)  # the pause between two polls
