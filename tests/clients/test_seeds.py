"""Clients of its_hub's service work as they are: its configuration, its curl call and its Python client, unchanged
but for the port."""

import subprocess
import sys

import pytest

CONFIGURATION = """\
curl -X POST http://localhost:8108/configure \\
  -H "Content-Type: application/json" \\
  -d '{
    "provider": "litellm",
    "endpoint": "auto",
    "api_key": "your-openai-api-key",
    "model": "gpt-4o-mini",
    "alg": "self-consistency",
    "tool_vote": "tool_hierarchical",
    "exclude_args": ["timestamp", "request_id", "id", "type"]
  }'
"""

TOOL_CALL = """\
curl -X POST http://localhost:8108/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "gpt-4o-mini",
    "messages": [
      {
        "role": "system",
        "content": "You are a precise calculator. Always use the calculator tool for arithmetic."
      },
      {
        "role": "user",
        "content": "What is 847 * 293 + 156?"
      }
    ],
    "tools": [
      {
        "type": "function",
        "function": {
          "name": "calculator",
          "description": "Perform arithmetic calculations",
          "parameters": {
            "type": "object",
            "properties": {
              "expression": {
                "type": "string",
                "description": "Mathematical expression to evaluate"
              }
            },
            "required": ["expression"]
          }
        }
      }
    ],
    "tool_choice": "auto",
    "budget": 5
  }'
"""

PYTHON_CLIENT = """\
from openai import OpenAI

client = OpenAI(
    base_url="http://localhost:8108/v1",
    api_key="dummy-key"  # Not validated for local use
)

# Define tools
tools = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Perform arithmetic calculations",
            "parameters": {
                "type": "object",
                "properties": {
                    "expression": {
                        "type": "string",
                        "description": "Mathematical expression to evaluate"
                    }
                },
                "required": ["expression"]
            }
        }
    }
]

response = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[
        {"role": "system", "content": "You are a precise calculator. Always use the calculator tool for arithmetic."},
        {"role": "user", "content": "What is 847 * 293 + 156?"}
    ],
    tools=tools,
    tool_choice="auto",
    extra_body={"budget": 5}  # IaaS-specific parameter
)

# Access tool calls
tool_calls = response.choices[0].message.tool_calls
print(f"Tool: {tool_calls[0].function.name}")
print(f"Arguments: {tool_calls[0].function.arguments}")
"""

TEXT = """\
curl -X POST http://localhost:8108/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "gpt-4o-mini",
    "messages": [
      {"role": "user", "content": "Explain quantum computing in one sentence"}
    ],
    "budget": 4
  }'
"""


@pytest.fixture
def service(remote_process, upstream):
    """The port of a daemon that has been configured as its_hub's guide has it."""
    answer = run(remote_process.port, "bash", "-ec", CONFIGURATION)
    assert '"status":"success"' in answer.replace(" ", "")
    assert "Initialized gpt-4o-mini with self-consistency algorithm" in answer
    call = {"id": "call_1", "name": "calculator", "arguments": '{"expression": "847 * 293 + 156"}'}
    upstream.always({"tool_calls": [call]})
    return remote_process.port


def run(port: int, *command: str) -> str:
    *program, text = command
    finished = subprocess.run(
        [*program, text.replace("localhost:8108", f"localhost:{port}")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_tool_calling_curl(service, upstream):
    answer = run(service, "bash", "-ec", TOOL_CALL)
    assert '"name":"calculator"' in answer.replace(" ", "")
    assert "847 * 293 + 156" in answer
    request = upstream.seen()[0]
    assert request["headers"]["authorization"] == "Bearer your-openai-api-key"
    assert request["body"]["model"] == "gpt-4o-mini"


def test_the_python_client(service):
    output = run(service, sys.executable, "-c", PYTHON_CLIENT)
    assert output == 'Tool: calculator\nArguments: {"expression": "847 * 293 + 156"}\n'


def test_the_text_request(service, upstream):
    upstream.always({"content": "It computes with amplitudes."})
    assert "It computes with amplitudes." in run(service, "bash", "-ec", TEXT)


def test_models_and_health(service):
    models = run(service, "bash", "-ec", "curl -X GET http://localhost:8108/v1/models")
    assert '"gpt-4o-mini"' in models
    health = run(service, "bash", "-ec", "curl http://localhost:8108/health")
    assert '"status":"healthy"' in health.replace(" ", "")
