"""OpenAI's clients against models of Bedrock: what they say whole and streamed, with reasoning and calls of tools, and how
their errors are raised."""

import asyncio
import json
import os
import subprocess

import openai
import pytest
from conftest import client_of
from harness import ROOT, BedrockStub, Daemon
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel

MODEL = "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
QUESTION = {"role": "user", "content": "What is 847 * 293 + 156?"}
EXPRESSION = "847 * 293 + 156"
USAGE = {
    "inputTokens": 11,
    "outputTokens": 3,
    "totalTokens": 26,
    "cacheReadInputTokens": 5,
    "cacheWriteInputTokens": 7,
}
# Planted as the key that signs; no test may ever see it in a log or an answer.
SECRET = "canary/5b0d9a71c3e24f68a1f7wJalrXUtnFEMI"


class Calculator(BaseModel):
    """Perform arithmetic calculations."""

    expression: str


TOOLS = [pydantic_function_tool(Calculator)]

budgets = pytest.mark.parametrize("budget", [1, 3])


def call(expression: str, use_id: str) -> dict:
    return {"tool_use": {"id": use_id, "name": "Calculator", "input": {"expression": expression}}}


REASONED_CALLS = {
    "content": [
        {"reasoning": {"text": "Let me calculate.", "signature": "c2ln"}},
        {"redacted": "aGlkZGVu"},
        {"text": "Two calls:"},
        call(EXPRESSION, "tooluse_a"),
        call("1 + 1", "tooluse_b"),
    ],
    "usage": USAGE,
}


@pytest.fixture(scope="module")
def stub_process():
    stub = BedrockStub()
    yield stub
    stub.stop()


@pytest.fixture
def stub(stub_process):
    """The stub with nothing scripted and nothing counted, which knows the planted key."""
    keys = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET}
    stub_process.control(reset=True, credentials=[keys])
    return stub_process


@pytest.fixture(scope="module")
def daemon_process(tmp_path_factory, stub_process):
    variables = {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": stub_process.base_url}
    daemon = Daemon(tmp_path_factory.mktemp("bedrock"), **variables)
    yield daemon
    assert daemon.stop() == 0
    assert SECRET not in daemon.log_text()


@pytest.fixture
def daemon(daemon_process, stub):
    daemon_process.configure(
        provider="litellm",
        model=MODEL,
        budget=1,
        max_retries=0,
        stop_rule="none",
        extra_args={
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "aws_secret_access_key": SECRET,
            "aws_region_name": "us-east-1",
        },
    )
    return daemon_process


@pytest.fixture
def completions(daemon):
    # What is tested is what the daemon does, and not what a client makes of it by asking again.
    with client_of(daemon).with_options(max_retries=0) as client:
        yield client.chat.completions


def check_reasoned_calls(message) -> None:
    assert (message.role, message.content) == ("assistant", "Two calls:")
    assert [(called.id, called.type, called.function.name) for called in message.tool_calls] == [
        ("tooluse_a", "function", "Calculator"),
        ("tooluse_b", "function", "Calculator"),
    ]
    arguments = [json.loads(called.function.arguments) for called in message.tool_calls]
    assert arguments == [{"expression": EXPRESSION}, {"expression": "1 + 1"}]
    assert message.reasoning_content == "Let me calculate."
    assert message.thinking_blocks == [
        {"type": "thinking", "thinking": "Let me calculate.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
    ]


@budgets
def test_a_whole_answer_has_calls_reasoning_and_usage(completions, stub, budget):
    stub.always(REASONED_CALLS)
    answer = completions.create(model=MODEL, messages=[QUESTION], tools=TOOLS, extra_body={"budget": budget})
    check_reasoned_calls(answer.choices[0].message)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (23 * budget, 3 * budget)
    assert answer.usage.prompt_tokens_details.cached_tokens == 5 * budget


@budgets
def test_the_stream_helper_puts_the_same_message_together(completions, stub, budget):
    stub.always(REASONED_CALLS)
    with completions.stream(
        model=MODEL,
        messages=[QUESTION],
        tools=TOOLS,
        stream_options={"include_usage": True},
        extra_body={"budget": budget},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    check_reasoned_calls(final.choices[0].message)
    assert final.choices[0].finish_reason == "tool_calls"
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (23 * budget, 3 * budget)
    assert final.usage.prompt_tokens_details.cached_tokens == 5 * budget
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.name, event.index, event.parsed_arguments) for event in done] == [
        ("Calculator", 0, Calculator(expression=EXPRESSION)),
        ("Calculator", 1, Calculator(expression="1 + 1")),
    ]
    # Live, words and arguments come as they are generated; a winner's come whole.
    words = [event.delta for event in events if event.type == "content.delta" and event.delta]
    assert words == (["Two", " calls:"] if budget == 1 else ["Two calls:"])


@budgets
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_agent_hands_the_message_back_with_what_the_model_thought(completions, stub, budget, streamed):
    stub.steps(*[REASONED_CALLS] * budget, *[{"content": [{"text": "It is 248327."}]}] * budget)
    messages = [QUESTION]

    def turn():
        asked = {"model": MODEL, "messages": messages, "tools": TOOLS, "extra_body": {"budget": budget}}
        if not streamed:
            return completions.create(**asked).choices[0].message
        with completions.stream(**asked) as stream:
            return stream.get_final_completion().choices[0].message

    message = turn()
    results = [
        {"role": "tool", "tool_call_id": called.id, "content": result}
        for called, result in zip(message.tool_calls, ["248327", "2"], strict=True)
    ]
    messages += [message, *results]
    assert turn().content == "It is 248327."
    told = stub.seen()[-1]["body"]["messages"]
    assert told[1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Let me calculate.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
        {"text": "Two calls:"},
        {"toolUse": {"toolUseId": "tooluse_a", "name": "Calculator", "input": {"expression": EXPRESSION}}},
        {"toolUse": {"toolUseId": "tooluse_b", "name": "Calculator", "input": {"expression": "1 + 1"}}},
    ]
    assert [block["toolResult"]["toolUseId"] for block in told[2]["content"]] == ["tooluse_a", "tooluse_b"]


def test_a_call_alone_has_no_content(completions, stub):
    stub.always({"content": [call(EXPRESSION, "tooluse_a")]})
    whole = completions.create(model=MODEL, messages=[QUESTION]).choices[0].message
    with completions.stream(model=MODEL, messages=[QUESTION]) as stream:
        streamed = stream.get_final_completion().choices[0].message
    # Null and not empty: Bedrock refuses empty texts when they come back.
    assert (whole.content, streamed.content) == (None, None)
    assert whole.tool_calls[0].function.arguments == streamed.tool_calls[0].function.arguments


@pytest.mark.parametrize(
    ("stop_reason", "told"),
    [("max_tokens", "length"), ("guardrail_intervened", "content_filter"), ("stop_sequence", "stop")],
)
def test_ends_are_told_in_the_words_of_openai(completions, stub, stop_reason, told):
    stub.always({"content": [{"text": "x"}], "stop_reason": stop_reason})
    assert completions.create(model=MODEL, messages=[QUESTION]).choices[0].finish_reason == told
    chunks = list(completions.create(model=MODEL, messages=[QUESTION], stream=True))
    assert chunks[-1].choices[0].finish_reason == told


@pytest.mark.parametrize(
    ("kind", "raised", "code"),
    [
        ("ThrottlingException", openai.RateLimitError, "rate_limit_exceeded"),
        ("AccessDeniedException", openai.InternalServerError, "upstream_auth"),
        ("ModelTimeoutException", openai.InternalServerError, "upstream_timeout"),
        ("ServiceUnavailableException", openai.InternalServerError, "upstream_unavailable"),
    ],
)
def test_errors_are_raised_by_their_kind(completions, stub, kind, raised, code):
    stub.always({"error": {"kind": kind}})
    for stream in (False, True):
        with pytest.raises(raised, match=kind) as caught:
            completions.create(model=MODEL, messages=[QUESTION], stream=stream)
        assert caught.value.code == code


def test_a_context_that_is_too_long_is_told_as_openai_tells_it(completions, stub):
    failure = {"kind": "ValidationException", "message": "Input is too long for requested model."}
    stub.always({"error": failure})
    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        completions.create(model=MODEL, messages=[QUESTION])
    assert caught.value.code == "context_length_exceeded"


def test_an_exception_in_the_middle_is_raised_where_events_are_read(completions, stub):
    failure = {"kind": "ModelStreamErrorException", "message": "the model fell over"}
    stub.always({"content": [{"text": "one two three four"}], "exception": failure, "exception_after": 3})
    heard = []
    with pytest.raises(openai.APIError, match="the model fell over"):
        with completions.stream(model=MODEL, messages=[QUESTION]) as stream:
            heard.extend(event.delta for event in stream if event.type == "content.delta")
    assert "".join(heard) == "one two"


def test_a_client_that_leaves_closes_the_call(daemon, stub):
    stub.always({"content": [{"text": "one two three"}], "stream_gate": "never"})

    async def leave():
        async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="dummy-key") as client:
            stream = await client.chat.completions.create(model=MODEL, messages=[QUESTION], stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()

    asyncio.run(leave())
    assert stub.wait_for(streams_closed_early=1, in_flight=0)["closed_early"] == 1


def test_openai_node(daemon, stub):
    finished = subprocess.run(
        ["node", "--test", "--test-reporter", "spec", "bedrock.js"],
        cwd=ROOT / "tests/clients/node",
        env={"PATH": os.environ["PATH"], "ITSD_URL": daemon.url, "UPSTREAM_URL": f"http://127.0.0.1:{stub.port}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout
