"""langchain-openai's ChatOpenAI with nothing changed but its base URL."""

import pytest
from harness import CALCULATOR, call_of
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


@pytest.fixture
def chat(remote):
    def make(**parameters) -> ChatOpenAI:
        return ChatOpenAI(base_url=f"{remote.url}/v1", api_key="dummy-key", model="gpt-4o-mini", **parameters)

    return make


@tool
def calculator(expression: str) -> str:
    """Perform arithmetic calculations"""
    return str(eval(expression, {"__builtins__": {}}))


class Sum(BaseModel):
    """A sum and its result."""

    left: int
    right: int
    result: int


def test_invoke_answers_with_the_winner_of_the_vote(chat, upstream):
    upstream.control(honour_n=False)
    upstream.steps(*({"content": f"It is \\boxed{{{number}}}."} for number in (41, 42, 42)))
    answer = chat(extra_body={"budget": 3, "stop_rule": "none"}).invoke("What is 6 * 7?")
    assert answer.content == "It is \\boxed{42}."
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata["input_tokens"] == 30
    assert upstream.counters()["requests"] == 3


def test_stream_yields_the_words_of_one_plain_call_as_they_come(chat, upstream):
    upstream.always({"content": "one two three"})
    chunks = list(chat(extra_body={"budget": 1}, stream_usage=True).stream("Count."))
    assert [chunk.content for chunk in chunks if chunk.content] == ["one ", "two ", "three"]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["output_tokens"] == 3


def test_stream_yields_a_scaled_answer(chat, upstream):
    upstream.always({"content": "It is \\boxed{42}."})
    chunks = chat(extra_body={"budget": 3}).stream("What is 6 * 7?")
    assert "".join(chunk.content for chunk in chunks) == "It is \\boxed{42}."


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_bound_tools_are_called_and_hear_their_result(chat, upstream, streaming):
    upstream.control(honour_n=False)
    upstream.steps(call_of("847 * 293"), call_of("847 * 293 + 156"), call_of("847 * 293 + 156"))
    bound = chat(extra_body={"budget": 3, "stop_rule": "none"}, streaming=streaming).bind_tools([calculator])
    question = HumanMessage("What is 847 * 293 + 156?")
    answer = bound.invoke([question])
    assert isinstance(answer, AIMessage)
    [call] = answer.tool_calls
    assert (call["name"], call["args"]) == ("calculator", {"expression": "847 * 293 + 156"})

    result = calculator.invoke(call)
    assert isinstance(result, ToolMessage) and result.content == "248327"
    upstream.always({"content": "It is 248327."})
    assert bound.invoke([question, answer, result]).content == "It is 248327."
    told = upstream.seen()[-1]["body"]["messages"][-1]
    assert told == {"role": "tool", "tool_call_id": call["id"], "content": "248327"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_is_voted_on_as_json(chat, upstream, method):
    upstream.control(honour_n=False)
    said = [
        '{"left": 6, "right": 7, "result": 41}',
        '{"left": 6, "right": 7, "result": 42}',
        '{"result": 42, "right": 7, "left": 6}',
    ]
    if method == "function_calling":
        upstream.steps(*({"tool_calls": [{"name": "Sum", "arguments": text}]} for text in said))
    else:
        upstream.steps(*({"content": text} for text in said))
    structured = chat(extra_body={"budget": 3, "stop_rule": "none"}).with_structured_output(Sum, method=method)
    assert structured.invoke("What is 6 * 7? Answer in JSON.") == Sum(left=6, right=7, result=42)
    assert upstream.counters()["requests"] == 3


def test_a_spent_request_is_not_repeated(chat, upstream):
    upstream.always({"refuse": 500})
    with pytest.raises(Exception, match="500"):
        chat(extra_body={"budget": 2}).invoke("Hello")
    assert upstream.counters()["requests"] == 2
