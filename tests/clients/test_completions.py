"""OpenAI's legacy text completions, by its own client."""

import openai
import pytest


def test_a_raw_prompt_is_continued_by_the_model_in_the_process(local):
    client = openai.OpenAI(base_url=f"{local.url}/v1", api_key="unused")
    answer = client.completions.create(model="arithmetic-demo", prompt="7 + 5 =", max_tokens=4, temperature=0, logprobs=2)
    assert answer.object == "text_completion" and answer.model == "arithmetic-demo"
    (choice,) = answer.choices
    assert choice.index == 0 and choice.finish_reason in ("stop", "length")
    assert "".join(choice.logprobs.tokens) == choice.text
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    chunks = list(
        client.completions.create(model="arithmetic-demo", prompt="7 + 5 =", max_tokens=4, temperature=0, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    assert {chunk.id for chunk in chunks} == {chunks[0].id}

    several = client.completions.create(model="arithmetic-demo", prompt=["1 + 1 =", "2 + 2 ="], n=2, echo=True, max_tokens=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert all(choice.text.startswith("1 + 1 =") for choice in several.choices[:2])

    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="arithmetic-demo", prompt=[1, 2, 3])
    assert refused.value.param == "prompt"
