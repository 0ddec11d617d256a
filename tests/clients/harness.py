"""The programs under test as processes: the daemon, and what stands in for a provider."""

import http.client
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ITSD = pathlib.Path(os.environ.get("ITSD_BIN", ROOT / "target/debug/itsd"))
UPSTREAM = pathlib.Path(os.environ.get("UPSTREAM_BIN", ROOT / "target/debug/examples/scripted-upstream"))
BEDROCK_STUB = pathlib.Path(os.environ.get("BEDROCK_STUB_BIN", ROOT / "target/debug/examples/bedrock-stub"))

# How long anything may take before a test gives up on it. Generous: only a failure waits for it.
PATIENCE_S = 60

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Perform arithmetic calculations",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "Mathematical expression to evaluate"}},
            "required": ["expression"],
        },
    },
}


def call_of(expression: str, call_id: str = "call_abc") -> dict:
    """A step of the upstream that calls the calculator."""
    arguments = json.dumps({"expression": expression})
    return {"tool_calls": [{"id": call_id, "name": "calculator", "arguments": arguments}]}


class Daemon:
    """`itsd serve` on a free port, with a state directory and an environment of its own."""

    def __init__(self, directory: pathlib.Path, *arguments: str, **environment: str):
        self.directory = directory
        self.state = directory / "state"
        self.port_file = directory / "port"
        self.log = directory / "log"
        # It says on this socket that it is ready, as it would to systemd.
        notify = directory / "notify"
        notify.unlink(missing_ok=True)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(notify))
        command = [ITSD, "serve", "--port", "0", "--port-file", self.port_file, "--state-dir", self.state, *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "NOTIFY_SOCKET": str(notify), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("ab"),
        )
        try:
            self.expect_notification("READY=1")
            self.port = int(self.port_file.read_text())
        except BaseException:
            self.process.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def expect_notification(self, wanted: str) -> None:
        """Reads notifications until one has the line `wanted`; fails when the daemon ends or stays silent."""
        deadline = time.monotonic() + PATIENCE_S
        self.notifications.settimeout(0.5)
        while True:
            try:
                lines = self.notifications.recv(4096).decode().splitlines()
            except TimeoutError:
                assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log_text()}"
                assert time.monotonic() < deadline, f"the daemon never said {wanted}:\n{self.log_text()}"
                continue
            if wanted in lines:
                return

    def log_text(self) -> str:
        return self.log.read_text()

    def call(self, method: str, path: str, body=None, **headers: str):
        """One request; the body is sent as it is when it is bytes, else as JSON. Header names have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return http_call(self.port, method, path, body, sent)

    def configure(self, **settings) -> dict:
        status, _, body = self.call("POST", "/configure", settings)
        assert status == 200, body
        return body

    def signal_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Asks the daemon to stop and returns its exit status."""
        if self.process.poll() is None:
            self.signal_stop()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.notifications.close()


class Upstream:
    """The scripted upstream. `tests/upstream/server.rs` says what it can be told."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command or [UPSTREAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.base_url = self.process.stdout.readline().removeprefix("listening on ").strip()
        self.port = int(self.base_url.split(":")[2].split("/")[0])

    def control(self, **script) -> None:
        status, _, body = http_call(self.port, "POST", "/control", script)
        assert status == 200, body

    def steps(self, *steps: dict, **script) -> None:
        """The answers to the next requests; after them come the usual ones."""
        self.control(steps=list(steps), **script)

    def always(self, step: dict, **script) -> None:
        self.control(steps=[step], cycle=True, **script)

    def wait_for(self, **counters: int) -> dict:
        """Waits until the counters are at least this (`in_flight`: exactly) and returns all of them."""
        query = "&".join(f"{name}={count}" for name, count in counters.items())
        status, _, body = http_call(self.port, "GET", f"/control?{query}")
        assert status == 200, f"the upstream never came to {counters}: {body['counters']}"
        return body["counters"]

    def seen(self) -> list[dict]:
        """The chat requests received, in order, each with its headers and its body."""
        return http_call(self.port, "GET", "/control")[2]["seen"]

    def counters(self) -> dict:
        return http_call(self.port, "GET", "/control")[2]["counters"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class BedrockStub(Upstream):
    """The stub of AWS Bedrock. `tests/bedrock_stub/server.rs` says what it can be told."""

    def __init__(self):
        model = importlib.util.find_spec("botocore").submodule_search_locations[0]
        super().__init__(
            BEDROCK_STUB,
            "--service-model",
            pathlib.Path(model, "data/bedrock-runtime/2023-09-30/service-2.json.gz"),
        )

    def seen(self) -> list[dict]:
        """The requests for models that were received, in order, those too that were refused."""
        return http_call(self.port, "GET", "/_stub/requests")[2]


def http_call(port: int, method: str, path: str, body=None, headers: dict | None = None):
    """Status, headers (names in lower case), and the body, parsed when it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    sent = {"content-type": "application/json"} if body is not None else {}
    sent.update(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    received = {name.lower(): value for name, value in response.getheaders()}
    if received.get("content-type", "").startswith("application/json"):
        content = json.loads(content)
    return response.status, received, content
