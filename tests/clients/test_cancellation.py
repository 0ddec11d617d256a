"""What happens upstream when nobody waits for the answer any more, and when many ask at once."""

import asyncio

import openai
from openai import AsyncOpenAI

MESSAGES = [{"role": "user", "content": "What is 6 * 7?"}]


def test_many_requests_at_once_each_get_their_own_answer(async_remote, upstream):
    async def ask(client: AsyncOpenAI, number: int) -> str:
        response = await client.chat.completions.create(
            model=f"model-{number}", messages=MESSAGES, extra_body={"budget": 3}
        )
        return response.choices[0].message.content

    async def ask_all() -> list[str]:
        async with async_remote as client:
            return await asyncio.gather(*(ask(client, number) for number in range(24)))

    for number in range(24):
        upstream.always({"content": f"answer {number}", "gate": "together"}, model=f"model-{number}")

    async def scenario() -> list[str]:
        asking = asyncio.create_task(ask_all())
        # None is answered before several are there: they do not wait for one another.
        await asyncio.to_thread(upstream.wait_for, requests=4)
        await asyncio.to_thread(upstream.control, open=["together"])
        return await asking

    assert asyncio.run(scenario()) == [f"answer {number}" for number in range(24)]


def test_a_client_that_goes_away_closes_every_call_of_its_run(async_remote, upstream):
    upstream.control(honour_n=False)
    upstream.always({"gate": "never"})

    async def scenario() -> None:
        async with async_remote as client:
            asking = asyncio.create_task(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES))
            await asyncio.to_thread(upstream.wait_for, in_flight=4)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            counters = await asyncio.to_thread(upstream.wait_for, in_flight=0)
            assert counters["closed_early"] == counters["requests"]

    asyncio.run(scenario())


def test_a_client_that_leaves_a_stream_closes_the_call(ask_remote, upstream):
    upstream.always({"content": "one two three", "stream_gate": "never"})
    stream = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_body={"budget": 1}
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()
    upstream.wait_for(in_flight=0, closed_early=1)


def test_a_client_whose_patience_ends_closes_the_calls(ask_remote, upstream):
    upstream.always({"gate": "never"})
    impatient = ask_remote.with_options(timeout=2, max_retries=0)
    try:
        impatient.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    except openai.APITimeoutError:
        pass
    upstream.wait_for(in_flight=0, closed_early=1)


def test_a_decided_vote_closes_the_calls_that_cannot_change_it(ask_remote, upstream):
    upstream.control(honour_n=False)
    same = {"content": "\\boxed{42}"}
    upstream.steps(same, same, same, {"gate": "never"})
    response = ask_remote.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_body={"return_response_only": False}
    )
    assert response.choices[0].message.content == "\\boxed{42}"
    stop = response.metadata["stop"]
    assert (stop["reason"], stop["planned"]) == ("decided", 4)
    # Two suffice when they are the first: a tie would still go to them.
    assert stop["completed"] in (2, 3)
    counters = upstream.wait_for(in_flight=0)
    assert counters["requests"] == stop["started"]
    # An answer may be on its way when the vote is decided: its call is cancelled, and was not cut short.
    assert 1 <= counters["closed_early"] <= stop["cancelled"]
