"""openai-python chats and streams, against the model that ships and against an upstream."""

import pytest

QUESTION = [{"role": "user", "content": "What is 23 + 48 - 17 + 66?"}]


def test_the_model_that_ships_answers_and_is_outvoted_when_it_slips(ask_local):
    response = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, extra_body={"return_response_only": False}
    )
    [choice] = response.choices
    assert choice.message.role == "assistant"
    assert choice.message.content.endswith("The answer is \\boxed{120}")
    assert choice.finish_reason == "stop"
    assert response.model == "arithmetic-demo"

    metadata = response.metadata
    counts = metadata["response_counts"]
    assert max(counts, key=counts.get) == "120"
    assert metadata["algorithm"] == "self-consistency"
    assert metadata["agreement"] == pytest.approx(counts["120"] / sum(counts.values()))
    assert metadata["responses"] == metadata["all_responses"]
    selected = metadata["responses"][metadata["selected_index"]]
    assert selected["content"] == choice.message.content


def test_usage_is_the_sum_over_all_candidates(ask_local):
    one = ask_local.chat.completions.create(model="arithmetic-demo", messages=QUESTION, extra_body={"budget": 1})
    many = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, extra_body={"budget": 8, "stop_rule": "none"}
    )
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
    assert many.usage.total_tokens == many.usage.prompt_tokens + many.usage.completion_tokens
    # Eight answers of about a hundred characters each, one token a character.
    assert many.usage.completion_tokens > 4 * one.usage.completion_tokens


def test_one_plain_call_streams_as_it_is_generated(ask_local):
    stream = ask_local.chat.completions.create(
        model="arithmetic-demo",
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"budget": 1},
    )
    chunks = list(stream)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 5
    assert "".join(texts).endswith("}")
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0


def test_a_scaled_answer_streams_too_and_carries_its_metadata(ask_local):
    stream = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, stream=True, extra_body={"return_response_only": False}
    )
    chunks = [chunk for chunk in stream if chunk.choices]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.endswith("The answer is \\boxed{120}")
    [last] = [chunk for chunk in chunks if chunk.choices[0].finish_reason]
    assert last.choices[0].finish_reason == "stop"
    assert "120" in last.metadata["response_counts"]


def test_a_seed_makes_a_run_repeatable(ask_local):
    answers = {
        ask_local.chat.completions.create(
            model="arithmetic-demo", messages=QUESTION, seed=11, temperature=0.8, extra_body={"budget": 1}
        ).choices[0].message.content
        for _ in range(3)
    }
    assert len(answers) == 1


def test_log_probabilities_come_when_asked_for(ask_local):
    response = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, logprobs=True, top_logprobs=2, extra_body={"budget": 1}
    )
    tokens = response.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == response.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


def test_the_run_is_told_in_headers(ask_local):
    raw = ask_local.chat.completions.with_raw_response.create(model="arithmetic-demo", messages=QUESTION)
    assert raw.headers["x-its-algorithm"] == "self-consistency"
    assert int(raw.headers["x-its-revision"]) >= 1
    assert 1 <= int(raw.headers["x-its-candidates"]) <= 16
    assert 0 < float(raw.headers["x-its-agreement"]) <= 1
    assert raw.headers["x-its-stop"]
    assert raw.headers["x-request-id"]


def test_models_are_listed(ask_local, ask_remote):
    assert "arithmetic-demo" in [model.id for model in ask_local.models.list()]
    assert ask_local.models.retrieve("arithmetic-demo").object == "model"
    assert "gpt-4o-mini" in [model.id for model in ask_remote.models.list()]


def test_the_upstream_gets_every_message_and_parameter_as_they_were_sent(ask_remote, upstream):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "You see images."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": "A square."},
        {"role": "user", "content": "Which colour?"},
    ]
    ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=messages,
        temperature=0.3,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias={"50256": -100},
        stop=["END"],
        user="user-1",
        metadata={"team": "blue"},
        store=False,
        extra_body={"budget": 1, "unheard_of": {"a": [1, 2]}},
    )
    [request] = upstream.seen()
    body = request["body"]
    assert body["messages"] == messages
    expected = {
        "model": "gpt-4o-mini",
        "temperature": 0.3,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"50256": -100},
        "user": "user-1",
        "metadata": {"team": "blue"},
        "store": False,
        "unheard_of": {"a": [1, 2]},
    }
    assert {name: body.get(name) for name in expected} == expected
    assert body["stop"] in ("END", ["END"])
    assert "budget" not in body
    assert request["headers"]["authorization"] == "Bearer sk-canary-8d1f0c7be2"


def test_the_upstreams_answers_are_voted_on(ask_remote, upstream):
    upstream.control(honour_n=False)
    answers = ["I get \\boxed{41}.", "It is \\boxed{42}.", "So \\boxed{42.0}.", "Thus \\boxed{42}."]
    upstream.steps(*({"content": answer} for answer in answers))
    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "What is 6 * 7?"}],
        extra_body={"return_response_only": False, "stop_rule": "none"},
    )
    assert response.choices[0].message.content in answers[1:]
    assert sorted(response.metadata["response_counts"].values()) == [1, 3]
    assert upstream.counters()["requests"] == 4


def test_a_stream_from_the_upstream_passes_through(ask_remote, upstream):
    upstream.steps({"content": "one two three four"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"budget": 1},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert texts == ["one ", "two ", "three ", "four"]
    assert chunks[-1].usage.completion_tokens == 4


def test_the_first_words_of_a_stream_arrive_before_the_last_are_made(ask_remote, upstream):
    upstream.steps({"content": "early late", "stream_gate": "rest"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=QUESTION, stream=True, extra_body={"budget": 1}
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content == "early ":
            upstream.control(open=["rest"])
            break
    else:
        pytest.fail("the first word never came")
    assert "late" in [chunk.choices[0].delta.content for chunk in stream if chunk.choices]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_raw_text_is_continued_by_one_plain_call(ask_remote, upstream, stream):
    upstream.always({"content": "there was a fox."})
    response = ask_remote.completions.create(model="gpt-4o-mini", prompt="Once upon a time", max_tokens=50, stream=stream)
    chunks = list(response) if stream else [response]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "there was a fox."
    [seen] = upstream.seen()
    assert (seen["path"], seen["body"]["prompt"]) == ("/v1/completions", "Once upon a time")
