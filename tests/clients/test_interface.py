"""What itsd adds to OpenAI's interface reaches openai-python, and what that does not know does not break it."""

import threading

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is 6 times 7?"}]


def test_progress_passes_by_a_client_that_reads_chunks(ask_remote, upstream):
    upstream.always({"content": "\\boxed{42}"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True, "include_progress": True},
        extra_body={"budget": 3, "stop_rule": "none"},
    )
    chunks = list(stream)
    progress = [chunk.progress for chunk in chunks if hasattr(chunk, "progress")]
    assert progress[-1] == {"completed": 3, "planned": 3, "phase": "generate"}
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "\\boxed{42}"
    assert chunks[-1].usage.prompt_tokens == 30


def test_progress_passes_by_the_helper_that_puts_a_stream_together(ask_remote, upstream):
    upstream.always({"content": "\\boxed{42}"})
    options = {"include_usage": True, "include_progress": True}
    with ask_remote.chat.completions.stream(
        model="gpt-4o-mini", messages=QUESTION, n=2, stream_options=options
    ) as stream:
        completion = stream.get_final_completion()
    assert [choice.message.content for choice in completion.choices] == ["\\boxed{42}"] * 2
    assert [choice.index for choice in completion.choices] == [0, 1]


def test_the_base_url_may_name_the_algorithm(remote, upstream):
    upstream.always({"content": "\\boxed{42}"})
    with openai.OpenAI(base_url=f"{remote.url}/v1/self-consistency", api_key="dummy-key") as client:
        response = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    assert response.choices[0].tts_metadata["consensus_score"] == 1
    assert upstream.seen()[0]["body"]["temperature"] == 0.7


def test_a_cancelled_request_is_an_error_that_is_not_repeated(remote, ask_remote, upstream):
    upstream.always({"hang_at": "request"})

    def cancel():
        upstream.wait_for(in_flight=4)
        status, _, body = remote.call("POST", "/v1/chat/cancel/the-user-left")
        assert (status, body["status"]) == (200, "cancelled")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(openai.APIStatusError) as raised:
        ask_remote.chat.completions.create(
            model="gpt-4o-mini", messages=QUESTION, extra_headers={"x-request-id": "the-user-left"}
        )
    canceller.join()
    assert (raised.value.status_code, raised.value.code) == (499, "request_cancelled")
    upstream.wait_for(in_flight=0)
    assert upstream.counters()["requests"] == 4
