"""Every way to spend compute as openai-python meets it: judges, certainty, rounds, synthesis, and how a run is chosen,
watched and ended."""

import json

import openai
import pytest
from conftest import CANARY

QUESTION = [{"role": "user", "content": "Which city is the capital?"}]
# Unlike one another, so that a test can tell them apart in what a judge is shown.
CITIES = ["Amsterdam it is.", "Bucharest it is.", "Copenhagen it is."]


@pytest.fixture
def judged(remote, upstream):
    """Configures a judge with its own model name, so that its answers are scripted apart from the candidates'."""

    def configure(mode: str, *verdicts: str) -> None:
        remote.configure(
            provider="openai",
            api_key=CANARY,
            model="gpt-4o-mini",
            alg="best-of-n",
            budget=3,
            max_retries=0,
            rm_name="llm-judge",
            judge_model="judge",
            judge_mode=mode,
        )
        upstream.control(honour_n=False, model="judge", steps=[{"content": verdict} for verdict in verdicts])
        upstream.control(model="gpt-4o-mini", steps=[{"content": city} for city in CITIES])

    return configure


def judge_requests(upstream) -> list[str]:
    """What the judge was shown, a text for each of its calls in order."""
    return [json.dumps(request["body"]) for request in upstream.seen() if request["body"]["model"] == "judge"]


def in_order_of_appearance(text: str) -> list[str]:
    return sorted((city for city in CITIES if city in text), key=text.index)


def ask(client, **extra):
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=QUESTION, extra_body={"return_response_only": False, **extra}
    )


def test_a_groupwise_judge_sees_all_and_picks_one(ask_remote, judged, upstream):
    judged("groupwise", '{"reasoning": "The second is right.", "selected_indices": [1]}')
    response = ask(ask_remote)
    [shown] = judge_requests(upstream)
    assert response.choices[0].message.content == in_order_of_appearance(shown)[1]
    assert sorted(response.metadata["scores"]) == [0.0, 0.0, 1.0]
    # Ten tokens of prompt for each call, the judge's among them.
    assert response.usage.prompt_tokens == 40
    assert response.metadata["usage_by_phase"]["judge"]["calls"] == 1


def test_a_pointwise_judge_scores_each(ask_remote, judged, upstream):
    judged("pointwise", *(json.dumps({"reasoning": "So so.", "score": score}) for score in (3, 9, 5)))
    response = ask(ask_remote)
    [best] = in_order_of_appearance(judge_requests(upstream)[1])
    assert response.choices[0].message.content == best
    assert len(judge_requests(upstream)) == 3
    assert len(response.metadata["scores"]) == 3


def test_a_judge_that_says_nothing_useful_is_told_and_the_vote_decides(ask_remote, judged, upstream):
    judged("groupwise", *["I like them all."] * 3)
    response = ask(ask_remote)
    assert response.choices[0].message.content in CITIES
    assert len(judge_requests(upstream)) == 3
    assert "judge" in json.dumps(response.metadata["warnings"]).lower()


def test_the_most_certain_candidate_wins_without_a_judge(ask_remote, upstream):
    upstream.control(honour_n=False)
    upstream.steps(*({"content": city} for city in CITIES))
    response = ask(ask_remote, alg="best-of-n", rm_name="entropy", budget=3)
    assert response.choices[0].message.content in CITIES
    assert len(response.metadata["scores"]) == 3
    assert all(request["body"]["logprobs"] is True for request in upstream.seen())
    # Asked for by us and not by the client, so that the answer has none.
    assert response.choices[0].logprobs is None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_wait_rounds_come_in_their_envelope(ask_remote, upstream, stream):
    upstream.steps(*({"content": f"answer {number}"} for number in (1, 2, 3)))
    response = ask_remote.chat.completions.create(model="gpt-4o-mini-wait-2", messages=QUESTION, stream=stream)
    if stream:
        chunks = list(response)
        assert {chunk.model for chunk in chunks} == {"gpt-4o-mini-wait-2"}
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        assert response.model == "gpt-4o-mini-wait-2"
        assert response.usage.prompt_tokens == 30
        text = response.choices[0].message.content
    assert text == "<test-time-compute>\nanswer 1\nanswer 2\n</test-time-compute>\n\nanswer 3"
    assert [len(request["body"]["messages"]) for request in upstream.seen()] == [1, 3, 5]


def test_the_last_wait_round_streams_as_it_is_generated(ask_remote, upstream):
    upstream.steps({"content": "first"}, {"content": "early late", "stream_gate": "rest"})
    stream = ask_remote.chat.completions.create(model="gpt-4o-mini-wait-1", messages=QUESTION, stream=True)
    heard = ""
    for chunk in stream:
        heard += (chunk.choices and chunk.choices[0].delta.content) or ""
        if heard.endswith("early "):
            upstream.control(open=["rest"])
    assert heard == "<test-time-compute>\nfirst\n</test-time-compute>\n\nearly late"


def test_a_mixture_is_one_more_call_that_reads_the_others(ask_remote, upstream):
    upstream.control(honour_n=False)
    upstream.steps(*({"content": city} for city in CITIES), {"content": "All three are capitals."})
    response = ask(ask_remote, alg="mixture-of-n", budget=3)
    assert response.choices[0].message.content == "All three are capitals."
    *_, synthesis = upstream.seen()
    assert len(upstream.seen()) == 4
    assert in_order_of_appearance(json.dumps(synthesis["body"])) != []


def test_n_asks_for_the_best_n_of_the_run(ask_remote, upstream):
    upstream.control(honour_n=False)
    upstream.steps(*({"content": f"\\boxed{{{number}}}"} for number in (1, 2, 2, 2)))
    response = ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, n=2)
    assert [choice.index for choice in response.choices] == [0, 1]
    assert response.choices[0].message.content == "\\boxed{2}"
    with pytest.raises(openai.BadRequestError):
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, n=3, extra_body={"budget": 2})


@pytest.mark.parametrize(("path", "algorithm"), [("self-consistency", "self-consistency"), ("best-of-n/entropy", "best-of-n")])
def test_a_base_url_can_choose_the_algorithm(ask_remote, remote, path, algorithm):
    client = ask_remote.with_options(base_url=f"{remote.url}/v1/{path}")
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=QUESTION, extra_body={"budget": 2}
    )
    assert raw.headers["x-its-algorithm"] == algorithm
    assert raw.parse().choices[0].tts_metadata["strategy"]


def test_a_path_that_names_no_algorithm_lists_them(ask_remote, remote):
    with pytest.raises(openai.BadRequestError, match="best-of-n"):
        ask_remote.with_options(base_url=f"{remote.url}/v1/guessing").chat.completions.create(
            model="gpt-4o-mini", messages=QUESTION
        )


def test_a_stream_carries_what_was_found_on_its_last_chunk(ask_remote, upstream):
    upstream.always({"content": "\\boxed{7}"})
    chunks = list(
        ask_remote.chat.completions.create(
            model="gpt-4o-mini",
            messages=QUESTION,
            stream=True,
            extra_body={"tts_strategy": "self_consistency", "num_paths": 3},
        )
    )
    [last] = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert last.choices[0].tts_metadata["selected_answer"] == "7"


def test_progress_objects_do_not_disturb_a_client_that_reads_choices(ask_remote, upstream):
    upstream.control(honour_n=False)
    upstream.steps({"content": "\\boxed{7}"}, {"content": "\\boxed{7}", "gate": "late"}, {"content": "\\boxed{8}", "gate": "late"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True, "include_progress": True},
        extra_body={"budget": 3, "stop_rule": "none"},
    )
    upstream.control(open=["late"])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == "\\boxed{7}"


def test_a_running_request_is_cancelled_by_its_id(ask_remote, remote, upstream):
    upstream.always({"content": "one two three", "stream_gate": "never"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=QUESTION, stream=True, extra_body={"budget": 1}
    )
    chunk = next(iter(stream))
    status, _, body = remote.call("POST", f"/v1/chat/cancel/{chunk.id}", {})
    assert status == 200, body
    upstream.wait_for(in_flight=0, closed_early=1)
    stream.close()


def test_a_budget_of_candidates_ends_the_run_with_the_best_so_far(ask_remote, upstream):
    upstream.always({"content": "\\boxed{7}"})
    response = ask(ask_remote, budget=8, stop_rule="none", limits={"max_candidates": 3})
    assert response.choices[0].message.content == "\\boxed{7}"
    assert response.metadata["stop"]["reason"] != "completed"
    assert upstream.counters()["requests"] == 3


def test_a_request_brings_its_own_endpoint_where_that_is_allowed(ask_remote, remote, upstream):
    headers = {"X-ITS-Endpoint": upstream.base_url, "X-ITS-API-Key": "sk-of-this-request"}
    with pytest.raises(openai.PermissionDeniedError, match="allow_request_endpoint"):
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, extra_headers=headers)
    remote.configure(
        provider="openai", api_key=CANARY, model="gpt-4o-mini", budget=2, max_retries=0, allow_request_endpoint=True
    )
    ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, extra_headers=headers)
    assert {request["headers"]["authorization"] for request in upstream.seen()} == {"Bearer sk-of-this-request"}
    # Without a key of its own the request has none: the configured one never goes to an address that a client names.
    upstream.control(reset=True)
    del headers["X-ITS-API-Key"]
    ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, extra_headers=headers)
    assert not [request for request in upstream.seen() if "authorization" in request["headers"]]
