"""Tool calls through openai-python: from the model that ships, from an upstream, and the whole loop of an agent."""

import json

import pytest
from harness import CALCULATOR, call_of

QUESTION = {"role": "user", "content": "What is 847 * 293 + 156?"}


def test_the_model_that_ships_calls_the_calculator_with_the_users_arithmetic(ask_local):
    response = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=[QUESTION], tools=[CALCULATOR], tool_choice="auto", extra_body={"budget": 5}
    )
    [choice] = response.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.type == "function" and call.id
    assert call.function.name == "calculator"
    assert json.loads(call.function.arguments) == {"expression": "847 * 293 + 156"}


def test_the_model_that_ships_streams_its_tool_call(ask_local):
    stream = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=[QUESTION], tools=[CALCULATOR], stream=True, extra_body={"budget": 1}
    )
    name, arguments, reasons = "", "", []
    for chunk in stream:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                assert call.index == 0
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    assert name == "calculator"
    assert json.loads(arguments) == {"expression": "847 * 293 + 156"}
    assert reasons == ["tool_calls"]


def test_an_agent_calls_its_tool_and_hears_the_answer(ask_remote, upstream):
    upstream.control(honour_n=False)
    expressions = ["847 * 293 + 156", "847*293+156", "847 * 293 + 156", "847 * 293 + 156"]
    upstream.steps(*(call_of(expression) for expression in expressions))
    messages = [{"role": "system", "content": "Use the calculator."}, QUESTION]

    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=messages, tools=[CALCULATOR], extra_body={"return_response_only": False}
    )
    [choice] = response.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"expression": "847 * 293 + 156"}
    assert call.id == "call_abc"

    messages += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": str(847 * 293 + 156)},
    ]
    upstream.control(reset=True)
    upstream.control(honour_n=False)
    upstream.always({"content": "It is 248327."})
    response = ask_remote.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[CALCULATOR])
    assert response.choices[0].message.content == "It is 248327."
    assert response.choices[0].finish_reason == "stop"
    # A call of the first vote, cancelled when that was decided, may have arrived late.
    seen = max((request["body"]["messages"] for request in upstream.seen()), key=len)
    assert seen[2]["tool_calls"][0]["id"] == "call_abc"
    assert seen[2]["tool_calls"][0]["function"] == {"name": "calculator", "arguments": call.function.arguments}
    assert seen[3] == {"role": "tool", "tool_call_id": "call_abc", "content": "248327"}


def test_parallel_tool_calls_come_back_together(ask_remote, upstream):
    both = {"tool_calls": [{"id": f"call_{i}", "name": "calculator", "arguments": f'{{"expression": "{i}"}}'} for i in (1, 2)]}
    upstream.always(both)
    for stream in (False, True):
        response = ask_remote.chat.completions.create(
            model="gpt-4o-mini", messages=[QUESTION], tools=[CALCULATOR], stream=stream
        )
        calls = {}
        if stream:
            for chunk in response:
                for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                    calls[call.index] = calls.get(call.index, "") + (call.function.arguments or "")
        else:
            calls = {i: call.function.arguments for i, call in enumerate(response.choices[0].message.tool_calls)}
        assert calls == {0: '{"expression": "1"}', 1: '{"expression": "2"}'}


def test_tools_and_the_choice_among_them_reach_the_upstream_untouched(ask_remote, upstream):
    strict = {**CALCULATOR, "function": {**CALCULATOR["function"], "strict": True}}
    choice = {"type": "function", "function": {"name": "calculator"}}
    ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=[QUESTION],
        tools=[strict],
        tool_choice=choice,
        parallel_tool_calls=False,
        extra_body={"budget": 1},
    )
    body = upstream.seen()[0]["body"]
    assert body["tools"] == [strict]
    assert body["tool_choice"] == choice
    assert body["parallel_tool_calls"] is False


def test_a_call_that_breaks_the_tools_schema_loses_to_one_that_keeps_it(ask_remote, upstream):
    upstream.control(honour_n=False)
    broken = {"tool_calls": [{"id": "call_x", "name": "calculator", "arguments": '{"formula": "1 + 1"}'}]}
    upstream.steps(broken, broken, broken, call_of("1 + 1"))
    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=[QUESTION], tools=[CALCULATOR], extra_body={"stop_rule": "none"}
    )
    [call] = response.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"expression": "1 + 1"}


@pytest.mark.parametrize("excluded", ["request_id", "meta.ts", "**.ts"])
def test_excluded_arguments_do_not_split_the_vote(ask_remote, remote, upstream, excluded):
    remote.configure(
        provider="openai",
        api_key="sk-other",
        model="gpt-4o-mini",
        budget=4,
        max_retries=0,
        tool_vote="tool_args",
        exclude_args=[excluded],
    )
    upstream.control(honour_n=False)

    def call(city: str, number: int) -> dict:
        value = {"request_id": number} if excluded == "request_id" else {"meta": {"ts": number}}
        return {"tool_calls": [{"name": "weather", "arguments": json.dumps({"city": city, **value})}]}

    upstream.steps(call("Rome", 1), call("Oslo", 2), call("Oslo", 3), call("Oslo", 4))
    weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=[QUESTION],
        tools=[weather],
        extra_body={"return_response_only": False, "stop_rule": "none"},
    )
    assert json.loads(response.choices[0].message.tool_calls[0].function.arguments)["city"] == "Oslo"
    assert sorted(response.metadata["response_counts"].values()) == [1, 3]
