"""Search step by step as openai-python meets it, on the model that ships."""

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is 23 + 48 - 17?"}]
SEARCH = {
    "alg": "particle-filtering",
    "rm_name": "perplexity",
    "rm_agg_method": "model",
    "budget": 4,
    "return_response_only": False,
}


def text_down_to(tree, leaf):
    text = ""
    while leaf is not None:
        text = tree[leaf]["text"] + text
        leaf = tree[leaf]["parent"]
    return text


def assert_tree(metadata, content):
    tree = metadata["tree"]
    assert [node["id"] for node in tree] == list(range(len(tree)))
    leaves = {node["candidate"]: node["id"] for node in tree if "candidate" in node}
    texts = [text_down_to(tree, leaf) for leaf in leaves.values()]
    assert content in texts
    assert metadata["responses"][metadata["selected_index"]]["content"] == content


@pytest.mark.parametrize(
    "search", [SEARCH, {**SEARCH, "alg": "beam-search", "beam_width": 2}], ids=["particles", "beams"]
)
def test_a_search_answers_and_shows_its_tree(ask_local, search):
    response = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, temperature=0.8, seed=3, extra_body=search
    )
    assert response.metadata["algorithm"] == search["alg"]
    assert_tree(response.metadata, response.choices[0].message.content)
    assert response.usage.completion_tokens > 0


def test_a_search_streams_what_is_certain(ask_local):
    stream = ask_local.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, temperature=0.8, seed=3, stream=True, extra_body=SEARCH
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    [metadata] = [chunk.metadata for chunk in chunks if hasattr(chunk, "metadata")]
    assert_tree(metadata, text)


def test_a_base_url_can_choose_a_search(ask_local, local):
    client = ask_local.with_options(base_url=f"{local.url}/v1/beam-search/entropy")
    response = client.chat.completions.create(
        model="arithmetic-demo", messages=QUESTION, max_tokens=100, extra_body={"budget": 4}
    )
    assert response.choices[0].tts_metadata["strategy"] == "beam-search"


def test_a_provider_is_not_searched(ask_remote, upstream):
    with pytest.raises(openai.BadRequestError, match="cannot continue a partial answer"):
        ask_remote.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, extra_body=SEARCH)
    assert upstream.counters()["requests"] == 0
