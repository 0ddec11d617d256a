"""AWS Bedrock through the real daemon: its_hub's examples as they stand, OpenAI's client, and the credentials of a machine
that AWS's SDK finds by itself."""

import http.server
import json
import subprocess
import threading

import pytest
from harness import ROOT, BedrockStub, Daemon
from openai import OpenAI

SEEDS = ROOT / "tests/data/seeds/its-hub"
MODEL = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
# Those of the stub, unless it is told otherwise.
KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
TEMPORARY = {**KEYS, "access_key_id": "ASIAIOSFODNN7EXAMPLE", "session_token": "stub-session-token//8Kd+w=="}
QUESTION = {"model": f"bedrock/{MODEL}", "messages": [{"role": "user", "content": "What is 6 times 7?"}]}


@pytest.fixture(scope="module")
def stub_process():
    stub = BedrockStub()
    yield stub
    stub.stop()


@pytest.fixture
def stub(stub_process):
    """The stub with nothing scripted and nothing counted."""
    stub_process.control(reset=True)
    return stub_process


@pytest.fixture
def start(stub, tmp_path):
    """Starts a daemon whose operator has named the stub as Bedrock's address, and these variables."""
    daemons = []

    def start(**environment: str) -> Daemon:
        address = {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": stub.base_url, "AWS_EC2_METADATA_DISABLED": "true"}
        daemons.append(Daemon(tmp_path, **address, **environment))
        return daemons[-1]

    yield start
    for daemon in daemons:
        assert daemon.stop() == 0


def run(daemon: Daemon, name: str) -> dict:
    """Runs an example with nothing replaced but its port, and the model where the example is for OpenAI's."""
    text = (SEEDS / name).read_text().replace("localhost:8108", f"localhost:{daemon.port}")
    text = text.replace("gpt-4o-mini", f"bedrock/{MODEL}")
    finished = subprocess.run(
        ["bash", "-ec", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(finished.stdout)


def tool_use(expression: str) -> dict:
    return {"content": [{"tool_use": {"name": "calculator", "input": {"expression": expression}}}]}


def test_its_hub_votes_on_the_tool_calls_of_bedrock(start, stub):
    daemon = start()
    stub.control(credentials=[{"access_key_id": "your-access-key", "secret_access_key": "your-secret-key"}])
    answer = run(daemon, "configure-bedrock-tool-vote.sh")
    assert answer["message"] == f"Initialized bedrock/{MODEL} with self-consistency algorithm"
    stub.steps(*(tool_use(said) for said in ("847 * 293", "847 * 293 + 156", "847 * 293 + 156", "847 * 293 + 156")))
    [choice] = run(daemon, "tool-call.sh")["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]) == {"expression": "847 * 293 + 156"}
    assert {(seen["model_id"], seen["key_id"], seen["refused"]) for seen in stub.seen()} == {
        (MODEL, "your-access-key", None)
    }


def test_its_hub_lets_a_judge_on_bedrock_choose(start, stub):
    daemon = start()
    stub.control(credentials=[{"access_key_id": "your-access-key", "secret_access_key": "your-secret-key"}])
    assert run(daemon, "configure-bedrock-judge.sh")["status"] == "success"
    said = [f"847 * 293 + {number}" for number in range(5)]
    verdict = {"content": [{"text": '{"reasoning": "it is whole", "selected_indices": [0]}'}]}
    stub.steps(*map(tool_use, said), verdict)
    [choice] = run(daemon, "tool-call.sh")["choices"]
    [call] = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["expression"] in said
    judged = stub.seen()[-1]["body"]
    assert judged["inferenceConfig"] == {"maxTokens": 2048, "temperature": 0.7}
    assert all(expression in json.dumps(judged["messages"]) for expression in said)


def test_the_client_of_openai_streams_from_bedrock(start, stub):
    daemon = start(AWS_BEARER_TOKEN_BEDROCK="bedrock-api-key-c3R1Yg==", AWS_REGION="us-east-1")
    daemon.configure(provider="bedrock", model=MODEL, budget=1)
    stub.steps({"content": [{"text": "Forty-two, and no more than that."}]})
    client = OpenAI(base_url=f"{daemon.url}/v1", api_key="unused", max_retries=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION["messages"], stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == "Forty-two, and no more than that."
    assert chunks[-1].usage.total_tokens > 0


class Credentials(http.server.BaseHTTPRequestHandler):
    """What a container asks for the credentials of its role."""

    def do_GET(self):
        assert self.headers["Authorization"] == "token-of-the-task"
        body = {
            "AccessKeyId": TEMPORARY["access_key_id"],
            "SecretAccessKey": TEMPORARY["secret_access_key"],
            "Token": TEMPORARY["session_token"],
            "Expiration": "2099-01-01T00:00:00Z",
        }
        self.server.asked += 1
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_the_role_of_a_container_signs(start, stub):
    server = http.server.HTTPServer(("127.0.0.1", 0), Credentials)
    server.asked = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        daemon = start(
            AWS_REGION="us-east-1",
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://127.0.0.1:{server.server_port}/role",
            AWS_CONTAINER_AUTHORIZATION_TOKEN="token-of-the-task",
        )
        assert daemon.configure(provider="litellm", model=f"bedrock/{MODEL}", budget=3)["warnings"] == []
        for _ in range(3):
            status, _, body = daemon.call("POST", "/v1/chat/completions", QUESTION)
            assert status == 200, body
    finally:
        server.shutdown()
        server.server_close()
    assert {(seen["key_id"], seen["refused"]) for seen in stub.seen()} == {(TEMPORARY["access_key_id"], None)}
    assert server.asked == 1, "what is known is not asked for again"
    assert TEMPORARY["session_token"] not in daemon.log_text()


def test_a_machine_that_has_no_role_is_refused_where_it_says_so(start):
    daemon = start(AWS_REGION="us-east-1")
    status, _, body = daemon.call("POST", "/configure", {"provider": "bedrock", "model": MODEL})
    assert (status, body["error"]["param"]) == (400, "extra_args.aws_access_key_id"), body


def test_a_variable_of_a_file_signs(start, stub, tmp_path):
    variables = {"AWS_REGION": "us-east-1", **{f"AWS_{name.upper()}": value for name, value in TEMPORARY.items()}}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    daemon = start()
    daemon.configure(provider="bedrock", model=MODEL, budget=1)
    status, _, body = daemon.call("POST", "/v1/chat/completions", {**QUESTION, "model": MODEL})
    assert status == 200, body
    assert stub.seen()[-1]["key_id"] == TEMPORARY["access_key_id"]
