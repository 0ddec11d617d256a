"""AWS Bedrock through the real daemon: its_hub's examples as they stand, OpenAI's client, and the credentials of a machine
that AWS's SDK finds by itself."""

import hashlib
import http.server
import json
import pathlib
import subprocess
import threading
import urllib.parse

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
        daemons.append(Daemon(tmp_path, **{**address, **environment}))
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


class Authorities(http.server.BaseHTTPRequestHandler):
    """Those that AWS's SDK asks for credentials: the services of a container and of an instance, STS, and IAM Identity
    Center. Each lets in only who proves itself in its way."""

    ROLE = "/latest/meta-data/iam/security-credentials"
    KEYS = {
        "AccessKeyId": TEMPORARY["access_key_id"],
        "SecretAccessKey": TEMPORARY["secret_access_key"],
        "Expiration": "2099-01-01T00:00:00Z",
    }

    def do_PUT(self):
        assert self.path == "/latest/api/token"
        self.answer("token-of-the-instance", x_aws_ec2_metadata_token_ttl_seconds="21600")

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/role":
            assert self.headers["Authorization"] == "token-of-the-task"
            self.give(json.dumps({**self.KEYS, "Token": TEMPORARY["session_token"]}))
        elif path == "/federation/credentials":
            assert self.headers["x-amz-sso_bearer_token"] == "token-of-the-session"
            assert sorted(self.path.split("?")[1].split("&")) == ["account_id=123456789012", "role_name=Asker"]
            keys = {
                "accessKeyId": TEMPORARY["access_key_id"],
                "secretAccessKey": TEMPORARY["secret_access_key"],
                "sessionToken": TEMPORARY["session_token"],
                "expiration": 4070908800000,
            }
            self.give(json.dumps({"roleCredentials": keys}))
        else:
            assert self.headers["x-aws-ec2-metadata-token"] == "token-of-the-instance"
            if path.rstrip("/") == self.ROLE:
                self.answer("asker")
            elif path == f"{self.ROLE}/asker":
                self.give(json.dumps({"Code": "Success", **self.KEYS, "Token": TEMPORARY["session_token"]}))
            else:
                self.send_error(404)

    def do_POST(self):
        asked = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        [action] = asked["Action"]
        assert asked["RoleArn"] == ["arn:aws:iam::123456789012:role/asker"]
        if action == "AssumeRoleWithWebIdentity":
            assert asked["WebIdentityToken"] == ["token-of-the-pod"]
        else:
            assert action == "AssumeRole"
            assert KEYS["access_key_id"] in self.headers["Authorization"]
        keys = {**self.KEYS, "SessionToken": TEMPORARY["session_token"]}
        keys = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
        self.give(
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>{keys}'
            f"</Credentials></{action}Result></{action}Response>"
        )

    def give(self, keys: str):
        self.server.given += 1
        self.answer(keys)

    def answer(self, text: str, **headers: str):
        content = text.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def authorities():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Authorities)
    server.given = 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def of_a_container(url: str, _) -> dict:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/role",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token-of-the-task",
    }


def of_an_instance(url: str, _) -> dict:
    return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}


def of_a_web_identity(url: str, home: pathlib.Path) -> dict:
    (home / "pod-token").write_text("token-of-the-pod")
    return {
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "pod-token"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/asker",
    }


def of_a_role_that_is_assumed(url: str, home: pathlib.Path) -> dict:
    keys = "".join(f"aws_{name} = {value}\n" for name, value in KEYS.items())
    role = "[profile asker]\nrole_arn = arn:aws:iam::123456789012:role/asker\nsource_profile = base\n"
    (home / ".aws").mkdir()
    (home / ".aws/config").write_text(f"[profile base]\n{keys}{role}")
    return {"AWS_ENDPOINT_URL_STS": url, "AWS_PROFILE": "asker"}


def of_the_identity_center(url: str, home: pathlib.Path) -> dict:
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True)
    token = {"accessToken": "token-of-the-session", "expiresAt": "2099-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'work').hexdigest()}.json").write_text(json.dumps(token))
    (home / ".aws/config").write_text(
        "[sso-session work]\nsso_start_url = https://work.awsapps.com/start\nsso_region = us-east-1\n"
        "[profile asker]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = Asker\n"
    )
    return {"AWS_ENDPOINT_URL_SSO": url, "AWS_PROFILE": "asker"}


@pytest.mark.parametrize(
    "found", [of_a_container, of_an_instance, of_a_web_identity, of_a_role_that_is_assumed, of_the_identity_center]
)
def test_the_credentials_that_the_sdk_finds_sign(start, stub, authorities, tmp_path, found):
    daemon = start(AWS_REGION="us-east-1", **found(authorities.url, tmp_path))
    warnings = daemon.configure(provider="litellm", model=f"bedrock/{MODEL}", budget=3)["warnings"]
    # Whether an instance has a role shows at the first call.
    assert [warning.endswith("the first call asks the machine for the role of its instance") for warning in warnings] == (
        [True] if found is of_an_instance else []
    )
    for _ in range(3):
        status, _, body = daemon.call("POST", "/v1/chat/completions", QUESTION)
        assert status == 200, body
    assert {(seen["key_id"], seen["refused"]) for seen in stub.seen()} == {(TEMPORARY["access_key_id"], None)}
    assert authorities.given == 1, "what is known is not asked for again"
    for secret in (TEMPORARY["session_token"], KEYS["secret_access_key"], "token-of-the"):
        assert secret not in daemon.log_text()


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
