"""openai-python 0.28, the last before 1.0, in an environment of its own. Extensions are ordinary arguments to it."""

import json
import subprocess

import pytest
from harness import CALCULATOR, ROOT, call_of

PYTHON = ROOT / ".venvs/openai-0.28/bin/python"

SET_UP = """\
import json, openai
openai.api_base = {base!r}
openai.api_key = "sk-ProxyKey"
ask = dict(model="gpt-4o-mini", messages=[{{"role": "user", "content": "What is 6 * 7?"}}])
"""


@pytest.fixture
def run(remote, upstream):
    upstream.control(honour_n=False)

    def run_program(program: str) -> str:
        set_up = SET_UP.format(base=f"{remote.url}/v1")
        finished = subprocess.run(
            [PYTHON, "-c", set_up + program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.strip()

    return run_program


def test_a_budget_is_an_argument_like_any_other(run, upstream):
    upstream.steps(*({"content": f"\\boxed{{{number}}}"} for number in (41, 42, 42)))
    answer = run("""
response = openai.ChatCompletion.create(**ask, budget=3, stop_rule="none", return_response_only=False)
print(response["choices"][0]["message"]["content"], response["metadata"]["response_counts"]["42"])
""")
    assert answer == "\\boxed{42} 2"
    assert upstream.counters()["requests"] == 3


@pytest.mark.parametrize("budget", [1, 3])
def test_a_stream_is_read_to_its_end(run, upstream, budget):
    upstream.always({"content": "one two three"})
    answer = run(f"""
deltas = [chunk["choices"][0]["delta"] for chunk in openai.ChatCompletion.create(**ask, budget={budget}, stream=True)]
print("".join(delta.get("content") or "" for delta in deltas))
""")
    assert answer == "one two three"


def test_tools_are_called(run, upstream):
    upstream.always(call_of("6 * 7"))
    answer = run(f"""
response = openai.ChatCompletion.create(**ask, budget=3, tools=json.loads({json.dumps([CALCULATOR])!r}))
print(response["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
""")
    assert json.loads(answer) == {"expression": "6 * 7"}


def test_refusals_are_its_own_exceptions_and_nothing_is_asked_twice(run, upstream):
    upstream.always({"refuse": 500})
    answer = run("""
try:
    openai.ChatCompletion.create(**ask, budget=0)
except openai.error.InvalidRequestError as error:
    print(error.param, error.http_status)
try:
    openai.ChatCompletion.create(**ask, budget=1)
except openai.error.APIError as error:
    print(error.http_status)
""")
    assert answer.splitlines() == ["budget 400", "502"]
    assert upstream.counters()["requests"] == 1
