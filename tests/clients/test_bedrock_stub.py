"""boto3 against the stub of Bedrock: what AWS's own client signs, sends and reads is what the stub checks and says."""

import datetime
import json

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from harness import PATIENCE_S, BedrockStub

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "Hello"}]}]
TOOLS = {
    "tools": [
        {
            "toolSpec": {
                "name": "calculator",
                "description": "Perform arithmetic calculations",
                "inputSchema": {"json": {"type": "object", "properties": {"expression": {"type": "string"}}}},
            }
        }
    ]
}
# Those of the stub, unless it is told otherwise.
KEYS = {
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
TEMPORARY = {**KEYS, "aws_access_key_id": "ASIAIOSFODNN7EXAMPLE", "aws_session_token": "stub-session-token//8Kd+w=="}


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
def client_of(stub, monkeypatch, tmp_path):
    """Makes clients that know nothing but what they are given."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    made = []

    def make(*, scheme="http", prefix="", region_name="us-east-1", parameter_validation=True, **keys):
        config = Config(
            retries={"total_max_attempts": 1},
            proxies={},
            read_timeout=PATIENCE_S,
            parameter_validation=parameter_validation,
        )
        session = boto3.session.Session()
        url = f"{scheme}://127.0.0.1:{stub.port}{prefix}"
        made.append(
            session.client("bedrock-runtime", endpoint_url=url, region_name=region_name, config=config, **keys)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(client_of):
    return client_of(**KEYS)


def refusal(client, model=MODEL, **request) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        client.converse(modelId=model, **{"messages": MESSAGES, **request})
    response = caught.value.response
    assert response["ResponseMetadata"]["RequestId"]
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
        response["Error"]["Message"],
    )


@pytest.mark.parametrize("keys", [KEYS, TEMPORARY])
@pytest.mark.parametrize("prefix", ["", "/behind/a/gateway"])
@pytest.mark.parametrize(
    "model",
    [MODEL, "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", "anthropic.claude-v2"],
)
def test_a_signed_conversation_is_answered(stub, client_of, keys, prefix, model):
    stub.steps({"content": [{"text": "It is 42."}], "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}})
    answer = client_of(prefix=prefix, **keys).converse(
        modelId=model,
        messages=MESSAGES,
        system=[{"text": "Be brief."}],
        inferenceConfig={"maxTokens": 5, "temperature": 0.5, "stopSequences": ["END"]},
        additionalModelRequestFields={"top_k": 5},
        requestMetadata={"team": "tests"},
    )
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "It is 42."}]}
    assert answer["stopReason"] == "end_turn"
    assert (answer["usage"]["totalTokens"], answer["metrics"]["latencyMs"]) == (7, 120)
    (seen,) = stub.seen()
    assert (seen["model_id"], seen["key_id"]) == (model, keys["aws_access_key_id"])
    assert seen["body"]["additionalModelRequestFields"] == {"top_k": 5}
    assert "authorization" not in seen["headers"]


def test_a_key_that_is_borne_needs_no_signature(stub, client_of, monkeypatch):
    # botocore bears a key only to where it believes there is TLS, which the stub has not.
    def without_tls(request, **_):
        request.url = request.url.replace("https://", "http://")

    def client_with(key):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        client = client_of(scheme="https")
        client.meta.events.register("before-send.bedrock-runtime", without_tls)
        return client

    answer = client_with("bedrock-api-key-c3R1Yg==").converse(modelId=MODEL, messages=MESSAGES)
    assert answer["stopReason"] == "end_turn"
    assert stub.seen()[0]["key_id"] == "Bearer bedr…"
    status, code, message = refusal(client_with("bedrock-api-key-of-nobody"))
    assert (status, code) == (403, "AccessDeniedException")
    assert message == "Authentication failed: Please make sure your API Key is valid."


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({**KEYS, "aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({**KEYS, "aws_access_key_id": "AKIANOBODY"}, "UnrecognizedClientException"),
        ({**KEYS, "aws_session_token": "anything"}, "UnrecognizedClientException"),
        ({**TEMPORARY, "aws_session_token": "another"}, "UnrecognizedClientException"),
        ({**KEYS, "region_name": "eu-west-1"}, "InvalidSignatureException"),
    ],
)
def test_who_signs_wrongly_is_refused(stub, client_of, keys, code):
    assert refusal(client_of(**keys))[:2] == (403, code)
    assert stub.counters()["refused"] == 1
    (seen,) = stub.seen()
    assert (seen["key_id"], seen["refused"]) == (keys["aws_access_key_id"], code)


def test_keys_may_be_expired_or_allow_nothing_and_clocks_be_wrong(stub, client):
    known = {"access_key_id": KEYS["aws_access_key_id"], "secret_access_key": KEYS["aws_secret_access_key"]}
    stub.control(credentials=[{**known, "expired": True}])
    assert refusal(client)[:2] == (403, "ExpiredTokenException")
    stub.control(credentials=[{**known, "denied": True}])
    assert refusal(client)[:2] == (403, "AccessDeniedException")
    stub.control(reset=True)
    stub.control(clock_ahead_s=3600)
    status, code, message = refusal(client)
    assert (status, code) == (403, "InvalidSignatureException")
    assert message.startswith("Signature expired: ")
    stub.control(clock_ahead_s=-3600)
    assert refusal(client)[2].startswith("Signature not yet current: ")
    stub.control(clock_ahead_s=0, region="eu-central-1")
    assert "valid region" in refusal(client)[2]


@pytest.mark.parametrize("place", ["body", "path", "header", "date"])
def test_what_is_changed_after_signing_is_refused(client, place):
    def change(request, **_):
        if place == "body":
            request.body = request.body.replace(b"Hello", b"Hullo")
        elif place == "path":
            request.url = request.url.replace("v1%3A0", "v2%3A0")
        elif place == "header":
            request.headers["X-Amz-Unsigned"] = "1"
        else:
            later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
            del request.headers["X-Amz-Date"]
            request.headers["X-Amz-Date"] = later.strftime("%Y%m%dT%H%M%SZ")

    client.meta.events.register("before-send.bedrock-runtime.Converse", change)
    assert refusal(client)[:2] == (403, "InvalidSignatureException")


def test_tools_are_used_and_their_results_come_back(stub, client):
    uses = [
        {"tool_use": {"id": "tooluse_1", "name": "calculator", "input": {"expression": "6*7"}}},
        {"tool_use": {"id": "tooluse_2", "name": "calculator", "input": {"expression": "1+1"}}},
    ]
    stub.steps({"content": [{"text": "Let me see."}, *uses]}, {"content": [{"text": "42 and 2"}]})
    asked = client.converse(modelId=MODEL, messages=MESSAGES, toolConfig=TOOLS)
    assert asked["stopReason"] == "tool_use"
    message = asked["output"]["message"]
    found = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    assert [(use["toolUseId"], use["input"]["expression"]) for use in found] == [
        ("tooluse_1", "6*7"),
        ("tooluse_2", "1+1"),
    ]
    results = [{"toolResult": {"toolUseId": use["toolUseId"], "content": [{"json": {"value": 42}}]}} for use in found]
    answers = {"role": "user", "content": results}
    conversation = [*MESSAGES, message, answers]
    final = client.converse(modelId=MODEL, messages=conversation, toolConfig=TOOLS)
    assert final["output"]["message"]["content"] == [{"text": "42 and 2"}]
    missing = [*MESSAGES, message, {"role": "user", "content": results[:1]}]
    assert "Expected toolResult blocks at messages.2.content for the following Ids: tooluse_2" in refusal(
        client, messages=missing, toolConfig=TOOLS
    )[2]
    assert refusal(client, messages=conversation)[1] == "ValidationException"


def test_an_unscripted_model_uses_what_it_is_offered(client):
    asked = client.converse(modelId=MODEL, messages=MESSAGES, toolConfig=TOOLS)
    assert asked["output"]["message"]["content"][0]["toolUse"]["name"] == "calculator"


def test_reasoning_images_and_caches_go_both_ways(stub, client):
    stub.steps(
        {
            "content": [
                {"reasoning": {"text": "Hm.", "signature": "c2ln"}},
                {"redacted": "c2VjcmV0"},
                {"text": "A dot."},
            ],
            "usage": {"cacheReadInputTokens": 5, "cacheWriteInputTokens": 7},
        }
    )
    picture = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n"}}}
    messages = [{"role": "user", "content": [picture, {"text": "What is it?"}, {"cachePoint": {"type": "default"}}]}]
    answer = client.converse(modelId=MODEL, messages=messages)
    reasoning, redacted, text = answer["output"]["message"]["content"]
    assert reasoning["reasoningContent"]["reasoningText"] == {"text": "Hm.", "signature": "c2ln"}
    assert redacted["reasoningContent"]["redactedContent"] == b"secret"
    assert text == {"text": "A dot."}
    assert (answer["usage"]["cacheReadInputTokens"], answer["usage"]["cacheWriteInputTokens"]) == (5, 7)
    # What the model said may be sent again as it is.
    again = [*messages, answer["output"]["message"], {"role": "user", "content": [{"text": "Sure?"}]}]
    assert client.converse(modelId=MODEL, messages=again)["stopReason"] == "end_turn"


@pytest.mark.parametrize("split_bytes", [None, 1, 50])
def test_a_stream_is_read_event_by_event(stub, client, split_bytes):
    step = {
        "content": [
            {"reasoning": {"text": "Hm. Yes.", "signature": "c2ln"}},
            {"text": "Let me see."},
            {"tool_use": {"name": "calculator", "input": {"expression": "6*7"}}},
        ],
        "trace": {"guardrail": {"actionReason": "none"}},
        "split_bytes": split_bytes,
    }
    stub.steps(step)
    answer = client.converse_stream(modelId=MODEL, messages=MESSAGES, toolConfig=TOOLS)
    events = list(answer["stream"])
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "messageStart"
    assert kinds[-2:] == ["messageStop", "metadata"]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]

    def joined(index, *path):
        parts = []
        for delta in deltas:
            value = delta["delta"] if delta["contentBlockIndex"] == index else {}
            for name in path:
                value = value.get(name, {})
            parts.append(value or "")
        return "".join(parts)

    assert joined(0, "reasoningContent", "text") == "Hm. Yes."
    assert joined(0, "reasoningContent", "signature") == "c2ln"
    assert joined(1, "text") == "Let me see."
    assert json.loads(joined(2, "toolUse", "input")) == {"expression": "6*7"}
    assert events[-2]["messageStop"]["stopReason"] == "tool_use"
    metadata = events[-1]["metadata"]
    assert metadata["usage"]["outputTokens"] > 0
    assert metadata["trace"] == {"guardrail": {"actionReason": "none"}}
    counters = stub.wait_for(answered=1)
    assert (counters["streams"], counters["closed_early"]) == (1, 0)


@pytest.mark.parametrize(
    "reason",
    [
        "end_turn",
        "tool_use",
        "max_tokens",
        "stop_sequence",
        "guardrail_intervened",
        "content_filtered",
        "malformed_model_output",
        "malformed_tool_use",
        "model_context_window_exceeded",
    ],
)
def test_every_stop_reason_is_told(stub, client, reason):
    stub.always({"content": [{"text": "x"}], "stop_reason": reason})
    assert client.converse(modelId=MODEL, messages=MESSAGES)["stopReason"] == reason
    stream = client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]
    assert [event["messageStop"]["stopReason"] for event in stream if "messageStop" in event] == [reason]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("AccessDeniedException", 403),
        ("ResourceNotFoundException", 404),
        ("ModelTimeoutException", 408),
        ("ModelErrorException", 424),
        ("ThrottlingException", 429),
        ("ModelNotReadyException", 429),
        ("InternalServerException", 500),
        ("ServiceUnavailableException", 503),
        ("ValidationException", 400),
    ],
)
def test_errors_are_raised_as_their_types(stub, client, kind, status):
    stub.steps({"error": {"kind": kind, "message": "so it is", "original_status": 529}})
    with pytest.raises(getattr(client.exceptions, kind)) as caught:
        client.converse(modelId=MODEL, messages=MESSAGES)
    response = caught.value.response
    assert response["Error"] == {"Message": "so it is", "Code": kind}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    if kind == "ModelErrorException":
        assert response["originalStatusCode"] == 529


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("ThrottlingException", "throttlingException"),
        ("ModelStreamErrorException", "modelStreamErrorException"),
        ("InternalServerException", "internalServerException"),
        ("ValidationException", "validationException"),
        ("ServiceUnavailableException", "serviceUnavailableException"),
    ],
)
def test_an_exception_ends_a_stream(stub, client, kind, member):
    stub.steps({"content": [{"text": "One two"}], "exception": {"kind": kind, "message": "stop"}, "exception_after": 2})
    read = []
    with pytest.raises(EventStreamError) as caught:
        for event in client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]:
            read.append(next(iter(event)))
    assert read == ["messageStart", "contentBlockDelta"]
    assert caught.value.response["Error"] == {"Code": member, "Message": "stop"}


def test_a_wrong_checksum_is_noticed(stub, client):
    stub.steps({"bad_checksum_at": 1})
    with pytest.raises(Exception, match="(?i)checksum"):
        list(client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])


def test_who_leaves_a_stream_is_counted(stub, client):
    stub.steps({"stream_gate": "never", "content": [{"text": "One two"}]})
    stream = client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]
    assert "messageStart" in next(iter(stream))
    stream.close()
    counters = stub.wait_for(streams_closed_early=1, in_flight=0)
    assert (counters["closed_early"], counters["answered"]) == (1, 0)


def test_what_the_model_forbids_is_named(client_of):
    unchecked = client_of(parameter_validation=False, **KEYS)
    status, code, message = refusal(unchecked, inferenceConfig={"temperature": 1.5}, messages=[{"role": "user"}])
    assert (status, code) == (400, "ValidationException")
    assert message.startswith("2 validation errors detected: ")
    assert "'inferenceConfig.temperature'" in message
    assert "Value null at 'messages.1.member.content'" in message
