"""openai-python's stream helpers, which put events and a whole completion together from chunks: at budget 1, where these
are live, and with a vote, where they are the winner's."""

import asyncio
import json

import openai
import pytest
from conftest import CANARY, client_of
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel

QUESTION = {"role": "user", "content": "What is 847 * 293 + 156?"}
EXPRESSION = "847 * 293 + 156"
MODEL = "gpt-4o-mini"

budgets = pytest.mark.parametrize("budget", [1, 5])


class Calculator(BaseModel):
    """Perform arithmetic calculations."""

    expression: str


class Sum(BaseModel):
    left: int
    right: int
    result: int


@pytest.fixture
def helpers(remote):
    """A client of a daemon that makes one call for each candidate, and asks for all of them."""
    remote.configure(
        provider="openai", api_key=CANARY, model=MODEL, budget=4, max_retries=0, use_n="never", stop_rule="none"
    )
    with client_of(remote) as client:
        yield client.chat.completions


def words(events) -> list[str]:
    """What is said, piece by piece; the piece that only tells who speaks is empty."""
    return [event.delta for event in events if event.type == "content.delta" and event.delta]


@budgets
def test_text_comes_as_events_and_as_a_whole(helpers, upstream, budget):
    upstream.always({"content": "one two three"})
    with helpers.stream(
        model=MODEL, messages=[QUESTION], stream_options={"include_usage": True}, extra_body={"budget": budget}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert words(events) == (["one ", "two ", "three"] if budget == 1 else ["one two three"])
    assert [event.content for event in events if event.type == "content.done"] == ["one two three"]
    [choice] = final.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "one two three", "stop")
    # Ten tokens of the prompt and three of the answer, for each call.
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (10 * budget, 3 * budget)
    assert final.usage.total_tokens == 13 * budget


@budgets
def test_usage_is_left_out_unless_it_is_asked_for(helpers, upstream, budget):
    upstream.always({"content": "one"})
    for options in ({}, {"stream_options": {"include_usage": False}}):
        chunks = list(
            helpers.create(model=MODEL, messages=[QUESTION], stream=True, extra_body={"budget": budget}, **options)
        )
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def call(expression: str, call_id: str = "call_abc") -> dict:
    return {"id": call_id, "name": "Calculator", "arguments": json.dumps({"expression": expression})}


@budgets
@pytest.mark.parametrize("beta", [False, True], ids=["", "beta"])
def test_a_tool_call_is_parsed_into_its_model(helpers, remote, upstream, budget, beta):
    outvoted = [{"tool_calls": [call("847 * 293")]}] if budget > 1 else []
    upstream.steps(*outvoted, *[{"tool_calls": [call(EXPRESSION)]}] * 4)
    with client_of(remote) as client:
        completions = client.beta.chat.completions if beta else client.chat.completions
        with completions.stream(
            model=MODEL, messages=[QUESTION], tools=[pydantic_function_tool(Calculator)], extra_body={"budget": budget}
        ) as stream:
            events = list(stream)
            final = stream.get_final_completion()
    pieces = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(event.arguments_delta for event in pieces) == json.dumps({"expression": EXPRESSION})
    # Live, the arguments come as they are generated; a winner's come whole.
    assert (len([event for event in pieces if event.arguments_delta]) > 1) == (budget == 1)
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert (done.name, done.index, done.parsed_arguments) == ("Calculator", 0, Calculator(expression=EXPRESSION))
    [choice] = final.choices
    # Null and not empty, as OpenAI has it: there are servers that refuse empty texts when they come back.
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [called] = choice.message.tool_calls
    assert (called.id, called.type) == ("call_abc", "function")
    assert called.function.parsed_arguments == Calculator(expression=EXPRESSION)


@budgets
def test_parallel_tool_calls_are_told_apart(helpers, upstream, budget):
    upstream.always({"tool_calls": [call("1 + 1", "call_1"), call("2 + 2", "call_2")]})
    with helpers.stream(
        model=MODEL, messages=[QUESTION], tools=[pydantic_function_tool(Calculator)], extra_body={"budget": budget}
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [(event.index, event.parsed_arguments.expression) for event in done] == [(0, "1 + 1"), (1, "2 + 2")]
    assert [called.id for called in final.choices[0].message.tool_calls] == ["call_1", "call_2"]


@budgets
def test_an_agent_that_streams_hands_the_result_back(helpers, upstream, budget):
    upstream.steps(*[{"tool_calls": [call(EXPRESSION)]}] * budget, *[{"content": "It is 248327."}] * budget)
    messages = [QUESTION]

    def turn():
        with helpers.stream(
            model=MODEL, messages=messages, tools=[pydantic_function_tool(Calculator)], extra_body={"budget": budget}
        ) as stream:
            return stream.get_final_completion().choices[0].message

    message = turn()
    [called] = message.tool_calls
    messages += [message, {"role": "tool", "tool_call_id": called.id, "content": "248327"}]
    assert turn().content == "It is 248327."
    told = upstream.seen()[-1]["body"]["messages"]
    [kept] = told[1]["tool_calls"]
    assert (kept["id"], kept["function"]["arguments"]) == ("call_abc", json.dumps({"expression": EXPRESSION}))
    assert told[2] == {"role": "tool", "tool_call_id": "call_abc", "content": "248327"}


@budgets
def test_structured_output_is_parsed_into_its_model(helpers, upstream, budget):
    upstream.always({"content": '{"left": 6, "right": 7, "result": 42}'})
    with helpers.stream(
        model=MODEL, messages=[QUESTION], response_format=Sum, extra_body={"budget": budget}
    ) as stream:
        [done] = [event for event in stream if event.type == "content.done"]
        final = stream.get_final_completion()
    assert done.parsed == final.choices[0].message.parsed == Sum(left=6, right=7, result=42)


def test_an_error_in_the_middle_is_raised_where_events_are_read(helpers, upstream):
    upstream.always({"content": "one two three four", "error": {"message": "the model fell over", "type": "server_error"}})
    heard = []
    with pytest.raises(openai.APIError, match="the model fell over") as raised:
        with helpers.stream(model=MODEL, messages=[QUESTION], extra_body={"budget": 1}) as stream:
            for event in stream:
                heard.append(event)
    assert words(heard)[:2] == ["one ", "two "]
    assert (raised.value.type, raised.value.code) == ("upstream_error", "upstream_unavailable")
    # A stream that has begun is not asked for again, by nobody.
    assert upstream.counters()["requests"] == 1


def test_what_fails_before_the_first_word_is_asked_for_again_unseen(helpers, remote, upstream):
    remote.configure(provider="openai", api_key=CANARY, model=MODEL, budget=1, max_retries=2, retry_budget=20)
    busy = {"refuse": 503, "retry_after": {"milliseconds": 1}}
    upstream.steps(busy, {"close_at": "request"}, {"content": "one two"})
    with helpers.stream(model=MODEL, messages=[QUESTION]) as stream:
        assert words(stream) == ["one ", "two"]
    assert upstream.counters()["requests"] == 3


@budgets
def test_the_helper_of_the_async_client_works_alike(helpers, remote, upstream, budget):
    upstream.always({"tool_calls": [call(EXPRESSION)]})

    async def scenario():
        async with AsyncOpenAI(base_url=f"{remote.url}/v1", api_key="dummy-key") as client:
            async with client.chat.completions.stream(
                model=MODEL,
                messages=[QUESTION],
                tools=[pydantic_function_tool(Calculator)],
                extra_body={"budget": budget},
            ) as stream:
                types = [event.type async for event in stream]
                return types, await stream.get_final_completion()

    types, final = asyncio.run(scenario())
    assert types.count("tool_calls.function.arguments.done") == 1
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == Calculator(expression=EXPRESSION)


@budgets
def test_leaving_the_helper_closes_every_call(helpers, upstream, budget):
    upstream.always({"content": "one two three", **({"stream_gate": "never"} if budget == 1 else {"gate": "never"})})
    if budget == 1:
        with helpers.stream(model=MODEL, messages=[QUESTION], extra_body={"budget": 1}) as stream:
            next(event for event in stream if event.type == "content.delta")
    else:
        impatient = helpers._client.with_options(timeout=2, max_retries=0).chat.completions
        with pytest.raises(openai.APITimeoutError):
            with impatient.stream(model=MODEL, messages=[QUESTION], extra_body={"budget": budget}) as stream:
                list(stream)
    counters = upstream.wait_for(in_flight=0, closed_early=1)
    assert counters["closed_early"] == counters["requests"]
