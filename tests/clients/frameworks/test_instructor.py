"""instructor: a pydantic model out of every answer, and the vote goes to equal JSON."""

import instructor
import pytest
from openai import OpenAI
from pydantic import BaseModel, field_validator

QUESTION = [{"role": "user", "content": "Add 6 and 7."}]

SAID = [
    '{"left": 6, "right": 7, "result": 12}',
    '{"left": 6, "right": 7, "result": 13}',
    '{"result": 13, "right": 7, "left": 6}',
]


class Sum(BaseModel):
    left: int
    right: int
    result: int


class CheckedSum(Sum):
    @field_validator("result")
    @classmethod
    def must_be_right(cls, result: int) -> int:
        if result != 13:
            raise ValueError("6 and 7 are 13")
        return result


@pytest.fixture
def extract(remote, upstream):
    upstream.control(honour_n=False)

    def ask(mode: instructor.Mode, response_model=Sum, **parameters):
        with OpenAI(base_url=f"{remote.url}/v1", api_key="dummy-key") as client:
            return instructor.from_openai(client, mode=mode).create(
                model="gpt-4o-mini",
                messages=QUESTION,
                response_model=response_model,
                extra_body={"budget": 3, "stop_rule": "none"},
                **parameters,
            )

    return ask


@pytest.mark.parametrize("mode", [instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA], ids=str)
def test_answers_in_json_are_voted_on_by_value(extract, upstream, mode):
    upstream.steps(*({"content": text} for text in SAID))
    assert extract(mode).model_dump() == {"left": 6, "right": 7, "result": 13}
    assert upstream.counters()["requests"] == 3
    assert upstream.seen()[0]["body"]["response_format"]["type"].startswith("json_")


def test_answers_in_tool_calls_are_voted_on_by_value(extract, upstream):
    upstream.steps(*({"tool_calls": [{"name": "Sum", "arguments": text}]} for text in SAID))
    assert extract(instructor.Mode.TOOLS).model_dump() == {"left": 6, "right": 7, "result": 13}
    assert upstream.seen()[0]["body"]["tool_choice"]["function"]["name"] == "Sum"


def test_its_second_try_tells_the_model_what_was_wrong(extract, upstream):
    wrong, right = ({"tool_calls": [{"name": "CheckedSum", "arguments": text}]} for text in SAID[:2])
    upstream.steps(wrong, wrong, wrong, right, right, right)
    assert extract(instructor.Mode.TOOLS, CheckedSum, max_retries=2).result == 13
    assert "6 and 7 are 13" in str(upstream.seen()[-1]["body"]["messages"])


def test_fields_are_streamed_as_they_are_complete(remote, upstream):
    upstream.always({"content": SAID[1]})
    with OpenAI(base_url=f"{remote.url}/v1", api_key="dummy-key") as client:
        partial = instructor.from_openai(client, mode=instructor.Mode.JSON).create_partial(
            model="gpt-4o-mini", messages=QUESTION, response_model=Sum, extra_body={"budget": 1}
        )
        *_, last = partial
    assert (last.left, last.right, last.result) == (6, 7, 13)
