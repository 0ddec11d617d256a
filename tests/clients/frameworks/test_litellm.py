"""LiteLLM as a client: `model="openai/…"` and an `api_base`."""

import json
import os

import pytest
from harness import CALCULATOR, call_of

# It would otherwise fetch a list of prices from the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

MESSAGES = [{"role": "user", "content": "What is 847 * 293 + 156?"}]


@pytest.fixture
def complete(remote):
    def ask(**parameters):
        parameters = {"model": "openai/gpt-4o-mini", "messages": MESSAGES, **parameters}
        return litellm.completion(api_base=f"{remote.url}/v1", api_key="dummy-key", **parameters)

    return ask


def test_a_completion_is_the_winner_of_the_vote(complete, upstream):
    upstream.control(honour_n=False)
    upstream.steps(*({"content": f"\\boxed{{{number}}}"} for number in (1, 2, 2)))
    response = complete(extra_body={"budget": 3, "stop_rule": "none"})
    assert response.choices[0].message.content == "\\boxed{2}"
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.prompt_tokens == 30
    # LiteLLM strips its own prefix, so that the name is the one that the daemon knows.
    assert upstream.seen()[0]["body"]["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("budget", [1, 3])
def test_a_stream_is_put_together(complete, upstream, budget):
    upstream.always({"content": "one two three"})
    chunks = list(complete(stream=True, extra_body={"budget": budget}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert chunks[-1].choices[0].finish_reason == "stop"
    rebuilt = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert rebuilt.choices[0].message.content == "one two three"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tools_are_called(complete, upstream, stream):
    upstream.always(call_of("847 * 293 + 156"))
    response = complete(tools=[CALCULATOR], stream=stream, extra_body={"budget": 3})
    if stream:
        response = litellm.stream_chunk_builder(list(response), messages=MESSAGES)
    assert response.choices[0].finish_reason == "tool_calls"
    [call] = response.choices[0].message.tool_calls
    assert (call.id, call.function.name) == ("call_abc", "calculator")
    assert json.loads(call.function.arguments) == {"expression": "847 * 293 + 156"}


def test_a_refusal_is_the_exception_that_LiteLLM_has_for_it(complete, upstream):
    with pytest.raises(litellm.BadRequestError, match="budget"):
        complete(extra_body={"budget": 0})
    upstream.always({"status": 429, "body": '{"error": {"message": "slow down"}}'})
    with pytest.raises(litellm.RateLimitError):
        complete(extra_body={"budget": 1})
    assert upstream.counters()["requests"] == 1
