"""Every row of the error table as openai-python meets it, and that no failure makes the client ask again."""

import openai
import pytest
from conftest import CANARY

MESSAGES = [{"role": "user", "content": "Hello"}]


def refusal(caught) -> dict:
    """The error object of a refusal, after checking its form."""
    body = caught.value.response.json()
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["detail"] == body["error"]["message"]
    assert CANARY not in caught.value.response.text
    assert caught.value.response.headers["x-request-id"]
    return body["error"]


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"temperature": 5}, "temperature", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 3, "extra_body": {"budget": 2}}, "n", "invalid_value"),
        ({"extra_body": {"budget": 0}}, "budget", "invalid_value"),
        ({"extra_body": {"budget": 1001}}, "budget", "invalid_value"),
        ({"extra_body": {"budget": "many"}}, "budget", "invalid_value"),
        ({"extra_body": {"alg": "dvts"}}, "alg", "not_supported_yet"),
        ({"extra_body": {"alg": "beam-search", "rm_name": "entropy"}}, "alg", "invalid_value"),
        ({"extra_body": {"alg": "guessing"}}, "alg", "invalid_value"),
        ({"extra_body": {"tts_strategy": "majority_vote"}}, "tts_strategy", "invalid_value"),
        ({"extra_body": {"tts_strategy": "online_bon"}}, "tts_strategy", "not_supported_yet"),
        ({"extra_body": {"regex_patterns": ["("]}}, "regex_patterns", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"extra_query": {"strict": "true"}, "extra_body": {"unheard_of": 1}}, "unheard_of", "unknown_field"),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_parameter(ask_remote, upstream, parameters, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        ask_remote.chat.completions.create(**{"model": "gpt-4o-mini", "messages": MESSAGES, **parameters})
    assert caught.value.param == param
    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"
    assert refusal(caught)["param"] == param
    assert upstream.counters()["requests"] == 0


def test_a_missing_field_is_named(remote):
    status, _, body = remote.call("POST", "/v1/chat/completions", {"model": "gpt-4o-mini"})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "missing_field", "messages")


def test_malformed_json_is_a_400(remote):
    status, _, body = remote.call("POST", "/v1/chat/completions", b'{"model": "gpt-4o-mini", "messages": [')
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_an_unknown_model_is_a_404_that_lists_the_known(ask_local):
    with pytest.raises(openai.NotFoundError) as caught:
        ask_local.chat.completions.create(model="gpt-9", messages=MESSAGES)
    error = refusal(caught)
    assert error["code"] == "model_not_found"
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("Model not found: gpt-9")
    assert "arithmetic-demo" in error["message"]


def test_a_prompt_that_the_model_cannot_hold_is_a_400(ask_local):
    with pytest.raises(openai.BadRequestError) as caught:
        ask_local.chat.completions.create(
            model="arithmetic-demo", messages=[{"role": "user", "content": "1 + " * 5000 + "1"}]
        )
    error = refusal(caught)
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("Input exceeds maximum context length")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/configure", 405),
    ],
)
def test_unknown_paths_and_methods_are_told_in_the_same_form(remote, method, path, status):
    answered, _, body = remote.call(method, path)
    assert answered == status
    assert body["error"]["type"] == "invalid_request_error"
    assert body["detail"] == body["error"]["message"]


def test_another_media_type_is_a_415(remote):
    for path in ("/configure", "/v1/chat/completions"):
        status, _, body = remote.call("POST", path, b"model=x", content_type="application/x-www-form-urlencoded")
        assert (status, body["error"]["type"]) == (415, "invalid_request_error")


def test_a_body_over_the_limit_is_a_413(remote):
    padding = b'{"model": "' + b"x" * (33 * 1024 * 1024) + b'"}'
    status, _, body = remote.call("POST", "/v1/chat/completions", padding)
    assert (status, body["error"]["type"]) == (413, "invalid_request_error")


def test_a_stale_revision_is_a_412_and_changes_nothing(remote):
    before = remote.call("GET", "/configure")[2]
    settings = {"provider": "openai", "api_key": "sk-x", "model": "gpt-4.1"}
    status, _, body = remote.call("POST", "/configure", settings, If_Match=f'"{before["revision"] - 1}"')
    assert (status, body["error"]["code"]) == (412, "revision_conflict")
    assert remote.call("GET", "/configure")[2]["revision"] == before["revision"]


@pytest.mark.parametrize(
    ("settings", "param", "code", "hint"),
    [
        ({"model": "m", "bugdet": 8}, "bugdet", "unknown_field", "budget"),
        ({"model": "m", "alg": "dvts"}, "alg", "not_supported_yet", ""),
        ({"model": "m", "alg": "beam-search", "rm_name": "entropy"}, "alg", "invalid_value", "partial answer"),
        ({"model": "m", "alg": "best-of-n", "rm_name": "prm"}, "rm_name", "not_supported_yet", ""),
        ({"model": "m", "alg": "best-of-n"}, "rm_name", "invalid_value", "llm-judge"),
        ({"provider": "litellm", "model": "bedrock/us.anthropic.claude-3-7-sonnet-20250219-v1:0"}, "extra_args.aws_region_name", "missing_field", "AWS_REGION"),
        ({"model": "m", "extra_args": {"aws_region_name": "us-east-1"}}, "extra_args.aws_region_name", "invalid_value", "Bedrock"),
        ({"model": "m", "budget": 0}, "budget", "invalid_value", ""),
        ({"provider": "openai"}, "model", "missing_field", ""),
        ({"provider": "llama", "model": "no-such-model"}, "model", "invalid_value", "arithmetic-demo"),
        ({"model": "m", "api_key": "env:NO_SUCH_VARIABLE"}, "api_key", "invalid_value", "NO_SUCH_VARIABLE"),
        ({"model": "m", "endpoint": "ftp://example.org"}, "endpoint", "invalid_value", ""),
        ({"model": "m", "endpoint": "http://169.254.169.254/"}, "endpoint", "invalid_value", ""),
    ],
)
def test_a_wrong_configuration_is_a_400_that_names_the_field(remote, settings, param, code, hint):
    status, _, body = remote.call("POST", "/configure", settings)
    assert status == 400
    assert (body["error"]["param"], body["error"]["code"]) == (param, code), body
    assert hint in body["error"]["message"]


def test_an_upstreams_rate_limit_stays_a_429_with_its_delay(ask_remote, upstream):
    upstream.always({"refuse": 429, "retry_after": {"seconds": 7}})
    with pytest.raises(openai.RateLimitError) as caught:
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_body={"budget": 1})
    refusal(caught)
    assert caught.value.response.headers["retry-after"] == "7"
    assert upstream.counters()["requests"] == 1


def test_a_key_that_the_upstream_refuses_is_our_502_not_the_clients_401(ask_remote, upstream):
    upstream.always({"status": 401, "body": '{"error": {"message": "Incorrect API key provided: ' + CANARY + '"}}'})
    with pytest.raises(openai.InternalServerError) as caught:
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    error = refusal(caught)
    assert caught.value.status_code == 502
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_auth")


@pytest.mark.parametrize(
    "step",
    [
        {"refuse": 500},
        {"status": 503, "body": "<html>overloaded</html>", "headers": {"content-type": "text/html"}},
        {"close_at": "request"},
        {"close_at": "body"},
        {"reset_at": "request"},
        {"reset_at": "body"},
    ],
    ids=["500", "html-503", "closes-at-once", "closes-half-way", "resets-at-once", "resets-half-way"],
)
def test_an_upstream_that_fails_is_a_502_which_the_client_does_not_repeat(ask_remote, upstream, step):
    upstream.always(step)
    with pytest.raises(openai.InternalServerError) as caught:
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_body={"budget": 1})
    error = refusal(caught)
    assert caught.value.status_code == 502
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_unavailable")
    assert caught.value.response.headers["x-should-retry"] == "false"
    # openai-python would ask twice more by default.
    assert upstream.counters()["requests"] == 1


def test_our_own_retries_are_bounded_and_the_clients_add_none(ask_remote, remote, upstream):
    remote.configure(provider="openai", api_key="sk-x", model="gpt-4o-mini", max_retries=2)
    upstream.always({"refuse": 500, "retry_after": {"milliseconds": 1}})
    with pytest.raises(openai.InternalServerError):
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_body={"budget": 1})
    assert upstream.counters()["requests"] == 3


def test_a_400_of_the_upstream_is_told_to_the_client(ask_remote, upstream):
    message = "Invalid schema for function 'f'"
    body = '{"error": {"message": "%s", "type": "invalid_request_error", "param": "tools[0]", "code": null}}' % message
    upstream.always({"status": 400, "body": body})
    with pytest.raises(openai.BadRequestError) as caught:
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert message in refusal(caught)["message"]
    assert caught.value.param == "tools[0]"


def test_a_run_goes_on_without_the_candidates_that_failed(ask_remote, upstream):
    upstream.control(honour_n=False)
    upstream.steps({"content": "\\boxed{1}"}, {"refuse": 500}, {"content": "\\boxed{1}"}, {"content": "\\boxed{1}"})
    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_body={"return_response_only": False, "stop_rule": "none"}
    )
    assert response.choices[0].message.content == "\\boxed{1}"
    [failure] = response.metadata["failures"]
    assert failure["status"] == 500


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(ask_remote, upstream):
    upstream.always({"content": "one two three four five", "error": {"message": "the model fell over", "type": "server_error"}})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_body={"budget": 1}
    )
    with pytest.raises(openai.APIError):
        list(stream)


def test_a_stream_that_never_began_is_refused_with_a_status(ask_remote, upstream):
    upstream.always({"refuse": 500})
    with pytest.raises(openai.APIError):
        list(ask_remote.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
