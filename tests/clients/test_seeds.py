"""The documented examples of the systems that itsd takes the place of, as they stand in `tests/data/seeds`, against a
daemon that is started with the one line that the README names for users of that system."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import CALCULATOR, ROOT, Daemon, Upstream, call_of

SEEDS = ROOT / "tests/data/seeds"
OPENAI_0_28 = ROOT / ".venvs/openai-0.28/bin/python"
FRAMEWORKS = ROOT / ".venvs/frameworks/bin/python"

HOW_TO_RUN = {
    ".sh": ("bash", "-ec"),
    ".py": (sys.executable, "-c"),
    ".mjs": ("node", "--input-type=module", "--eval"),
}


def example(name: str) -> str:
    return (SEEDS / name).read_text()


def run(daemon: Daemon, name: str, *, program: tuple | None = None, text: str | None = None) -> str:
    """Runs an example with nothing but its port replaced and returns what it prints."""
    text = re.sub(r"localhost:\d+", f"localhost:{daemon.port}", text or example(name))
    program = program or HOW_TO_RUN[(SEEDS / name).suffix]
    finished = subprocess.run(
        [*program, text],
        # Where the JavaScript client is installed.
        cwd=ROOT / "tests/clients/node",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr + daemon.log_text()
    return finished.stdout


@pytest.fixture(scope="module")
def started(tmp_path_factory, upstream_process):
    """Starts a daemon with an environment; the upstream has the address of every provider. One daemon an environment."""
    daemons = {}
    addresses = {f"{name}_BASE_URL": upstream_process.base_url for name in ("OPENAI", "OPENROUTER", "DEEPINFRA", "VLLM")}

    def start(**environment: str) -> Daemon:
        key = json.dumps(environment, sort_keys=True)
        if key not in daemons:
            daemons[key] = Daemon(tmp_path_factory.mktemp("seed"), **addresses, **environment)
        return daemons[key]

    yield start
    for daemon in daemons.values():
        assert daemon.stop() == 0


# its_hub: `itsd serve`


@pytest.fixture
def its_hub(started, upstream):
    upstream.control(honour_n=False)
    return started()


@pytest.fixture
def its_hub_with_tool_vote(its_hub):
    answer = json.loads(run(its_hub, "its-hub/configure-tool-vote.sh"))
    assert answer["status"] == "success"
    assert answer["message"] == "Initialized gpt-4o-mini with self-consistency algorithm"
    return its_hub


def test_its_hub_votes_on_the_tool_calls_of_a_curl(its_hub_with_tool_vote, upstream):
    upstream.steps(*(call_of(said) for said in ("847 * 293", "847 * 293 + 156", "847 * 293 + 156", "847 * 293 + 156")))
    [choice] = json.loads(run(its_hub_with_tool_vote, "its-hub/tool-call.sh"))["choices"]
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "calculator", "arguments": '{"expression": "847 * 293 + 156"}'}
    request = upstream.seen()[0]
    assert request["headers"]["authorization"] == "Bearer your-openai-api-key"
    assert request["body"]["model"] == "gpt-4o-mini"
    assert "budget" not in request["body"]


def test_its_hub_answers_the_python_client(its_hub_with_tool_vote, upstream):
    upstream.always(call_of("847 * 293 + 156"))
    output = run(its_hub_with_tool_vote, "its-hub/tool-call.py")
    assert output == 'Tool: calculator\nArguments: {"expression": "847 * 293 + 156"}\n'


def test_its_hub_answers_text(its_hub_with_tool_vote, upstream):
    upstream.always({"content": "It computes with amplitudes."})
    assert "It computes with amplitudes." in run(its_hub_with_tool_vote, "its-hub/text.sh")


@pytest.mark.parametrize("name", ["its-hub/from-local-machine.sh", "its-hub/watson-orchestrate.py"])
def test_its_hub_answers_for_a_model_on_vllm(its_hub, upstream, name):
    model = "Qwen/Qwen2.5-Math-1.5B-Instruct"
    its_hub.configure(provider="vllm", endpoint=upstream.base_url, model=model, alg="self-consistency")
    run(its_hub, name)
    assert {request["body"]["model"] for request in upstream.seen()} == {model}
    assert upstream.counters()["requests"] >= 2


def test_its_hub_lets_a_judge_choose(its_hub, upstream):
    answer = json.loads(run(its_hub, "its-hub/configure-judge.sh"))
    assert answer["status"] == "success"
    assert answer["message"] == "Initialized gpt-4o-mini with best-of-n algorithm"
    said = [f"847 * 293 + {number}" for number in range(5)]
    upstream.steps(*map(call_of, said), {"content": '{"reasoning": "it is whole", "selected_indices": [0]}'})
    [choice] = json.loads(run(its_hub, "its-hub/tool-call.sh"))["choices"]
    [call] = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["expression"] in said

    *generated, judged = (request["body"] for request in upstream.seen())
    assert [body["tools"] for body in generated] == [[CALCULATOR]] * 5
    assert (judged["model"], judged["temperature"], judged["max_tokens"]) == ("gpt-4o-mini", 0.7, 2048)
    asked = json.dumps(judged["messages"])
    # The judge sees the question, every candidate's call, and the tool.
    assert "What is 847 * 293 + 156?" in asked
    assert all(f"847 * 293 + {number}" in asked for number in range(5))
    assert "Perform arithmetic calculations" in asked


def test_its_hub_shows_its_documentation(its_hub):
    assert "<html" in run(its_hub, "its-hub/docs.sh").lower()


# Test-time scaling service: `OPENROUTER_API_KEY=… PORT=8001 itsd serve`


@pytest.fixture
def scaling_service(started, upstream):
    upstream.control(honour_n=False)
    return started(OPENROUTER_API_KEY="your-key", PORT="8001")


# None is answered before all have been asked for, so that no early decision saves one.
PATHS = [
    {"content": f"15 * 7 = {result}, so \\boxed{{{result}}}.", "gate": "all"} for result in (105, 100, 105, 100, 105)
]


def run_when_all_are_asked(count: int, upstream: Upstream, daemon: Daemon, name: str) -> str:
    with ThreadPoolExecutor() as threads:
        running = threads.submit(run, daemon, name)
        upstream.wait_for(requests=count)
        upstream.control(open=["all"])
        return running.result()


def test_the_scaling_service_votes_for_the_python_client(scaling_service, upstream):
    upstream.steps(*PATHS)
    output = run_when_all_are_asked(5, upstream, scaling_service, "test-time-scaling-service/self-consistency.py")
    content, metadata = output.strip().splitlines()
    assert content == "15 * 7 = 105, so \\boxed{105}."
    assert "'consensus_score'" in metadata and "'answer_distribution'" in metadata and "'105'" in metadata
    assert upstream.counters()["requests"] == 5
    request = upstream.seen()[0]
    assert request["headers"]["authorization"] == "Bearer your-key"
    # OpenRouter's names have a slash; it is part of the name.
    assert request["body"]["model"] == "openai/gpt-4o-mini"
    assert (request["body"]["temperature"], request["body"]["max_tokens"]) == (0.7, 4096)
    assert not {name for name in request["body"] if name.startswith("tts_") or name == "num_paths"}


def test_the_scaling_service_votes_for_a_curl(scaling_service, upstream):
    upstream.steps(*PATHS)
    output = run_when_all_are_asked(5, upstream, scaling_service, "test-time-scaling-service/self-consistency.sh")
    [choice] = json.loads(output)["choices"]
    assert choice["message"]["content"] == "15 * 7 = 105, so \\boxed{105}."
    metadata = choice["tts_metadata"]
    assert metadata["strategy"] == "self_consistency"
    assert metadata["selected_answer"] == "105"
    assert metadata["consensus_score"] == max(metadata["answer_distribution"].values()) > 0.5
    assert sum(metadata["answer_distribution"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "environment",
    [{"OPENROUTER_API_KEY": "your-key"}, {"VLLM_MODEL_PATH": "Qwen/Qwen2.5-7B-Instruct"}],
    ids=["openrouter", "vllm"],
)
def test_the_scaling_service_picks_the_most_certain_of_eight(started, upstream, environment):
    scaling_service = started(PORT="8001", **environment)
    upstream.control(honour_n=False)
    upstream.steps(*({"content": f"step one\n\nstep two of {number}"} for number in range(8)))
    client, messages = example("test-time-scaling-service/self-consistency.py").split("response = ")
    messages = re.search(r"messages=\[.*?\n    \],", messages, re.DOTALL).group().rstrip(",")
    fragment = example("test-time-scaling-service/offline-best-of-n.py").replace("messages=[...]", messages)
    output = run(
        scaling_service,
        "test-time-scaling-service/offline-best-of-n.py",
        text=f"{client}{fragment}\nprint(response.choices[0].tts_metadata['strategy'])",
    )
    assert output == "offline_bon\n"
    bodies = [request["body"] for request in upstream.seen()]
    assert len(bodies) == 8
    assert all(body["logprobs"] is True and body["model"] == "Qwen/Qwen2.5-7B-Instruct" for body in bodies)


def test_the_scaling_service_asks_the_provider_that_a_request_names(started, upstream):
    daemon = started(OPENROUTER_API_KEY="your-key", OPENAI_API_KEY="your-other-key", PORT="8001")
    for provider, key in (("openrouter", "your-key"), ("openai", "your-other-key")):
        upstream.control(reset=True)
        request = {
            "model": "openai/gpt-4o-mini" if provider == "openrouter" else "gpt-4o-mini",
            "messages": [{"role": "user", "content": "What is 15 * 7?"}],
            "tts_strategy": "self_consistency",
            "provider": provider,
        }
        status, _, response = daemon.call("POST", "/v1/chat/completions", request)
        assert status == 200, response
        assert {seen["headers"]["authorization"] for seen in upstream.seen()} == {f"Bearer {key}"}
        assert {seen["body"]["model"] for seen in upstream.seen()} == {request["model"]}


# TTC-LLM: `DEEPINFRA_API_KEY=… PORT=4000 itsd serve`


def test_ttc_llm_reasons_in_rounds_for_the_python_client_of_its_day(started, upstream):
    daemon = started(DEEPINFRA_API_KEY="your-key", PORT="4000")
    upstream.steps(*({"content": f"answer {number}"} for number in range(1, 8)))
    output = run(daemon, "ttc-llm/chat.py", program=(str(OPENAI_0_28), "-c"))
    thoughts = "\n".join(f"answer {number}" for number in range(1, 7))
    assert output == f"<test-time-compute>\n{thoughts}\n</test-time-compute>\n\nanswer 7\n"

    requests = upstream.seen()
    assert len(requests) == 7
    assert {request["body"]["model"] for request in requests} == {"meta-llama/Meta-Llama-3.1-8B-Instruct"}
    assert requests[0]["headers"]["authorization"] == "Bearer your-key"
    assert [(message["role"], message["content"]) for message in requests[1]["body"]["messages"]] == [
        ("user", "What is 15!?"),
        ("assistant", "answer 1"),
        ("user", "wait, check your reasoning"),
    ]


# LLM service: `OPENAI_API_KEY=… PORT=8000 itsd serve`, and a `model_mapping` for its names


@pytest.fixture
def llm_service(started, upstream):
    daemon = started(OPENAI_API_KEY="sk-test", PORT="8000")
    daemon.configure(model="gpt-4o-mini", alg="none", model_mapping={"medium": "gpt-4o-mini"})
    upstream.always({"content": "Once upon a time."})
    return daemon


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("basic-usage.py", ""),
        ("requests-client.py", "Once upon a time.\n"),
        ("openai-client.py", "Once upon a time.\n"),
        ("openai-client.mjs", "Once upon a time.\n"),
        ("streaming.py", "Once upon a time."),
    ],
)
def test_llm_service_answers_its_clients(llm_service, upstream, name, printed):
    assert run(llm_service, f"llm-service/{name}") == printed
    [request] = upstream.seen()
    assert request["body"]["model"] == "gpt-4o-mini"


def test_llm_service_answers_the_documented_requests(llm_service, upstream):
    messages = '[{"role": "user", "content": "Answer in JSON."}]'
    for name in ("chat.json", "structured-output.json"):
        request = json.loads(example(f"llm-service/{name}").replace("[...]", messages))
        status, _, response = llm_service.call("POST", "/v1/chat/completions", request)
        assert (status, response["model"]) == (200, "medium")
        assert response["choices"][0]["message"]["content"] == "Once upon a time."
    assert upstream.seen()[-1]["body"]["response_format"] == {"type": "json_object"}


def test_llm_service_continues_raw_text(llm_service, upstream):
    request = json.loads(example("llm-service/completion.json"))
    llm_service.configure(model="gpt-4o-mini", model_mapping={"light": "gpt-4o-mini"})
    status, _, response = llm_service.call("POST", "/v1/completions", request)
    assert (status, response["object"], response["model"]) == (200, "text_completion", "light")
    assert response["choices"][0]["text"] == "Once upon a time."
    [seen] = upstream.seen()
    assert (seen["path"], seen["body"]["prompt"]) == ("/v1/completions", "Once upon a time")
    assert (seen["body"]["max_tokens"], seen["body"]["temperature"]) == (50, 0.8)


def test_llm_service_answers_langchains_llm(llm_service, upstream):
    run(llm_service, "llm-service/langchain.py", program=(str(FRAMEWORKS), "-W", "ignore", "-c"))
    [seen] = upstream.seen()
    assert seen["path"] == "/v1/completions"
    assert seen["body"]["prompt"] == ["What is the meaning of life?"]
