"""The examples of README.md and docs/ work as they stand: every `bash` block that begins with `curl` and every
`python` block is run in order, with nothing changed but the port. A page on migration says first how the daemon is
started, and it is started so."""

import os
import re
import subprocess
import sys

import pytest
from harness import ROOT, Daemon

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Extensions of the chat request that no provider has.
OURS = {
    *("alg", "budget", "num_paths", "return_response_only", "stop_rule", "wait_rounds", "limits", "provider"),
    *("rm_name", "judge_criterion", "judge_fallback"),
}

# A refused request must fail the example, as it would disappoint its reader.
CURL_THAT_FAILS = 'curl() { command curl --fail-with-body --silent --show-error "$@"; }\n'


def examples(text: str) -> list[tuple[str, str]]:
    """The (language, text) of the examples of a page, in order."""
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in blocks if language == "python" or block.startswith("curl")]


def command(language: str, block: str) -> list[str]:
    if language == "bash":
        return ["bash", "-euo", "pipefail", "-c", CURL_THAT_FAILS + block]
    python = sys.executable
    if "openai.api_base" in block:
        # Which openai-python had before 1.0, and no later one.
        python = ROOT / ".venvs/openai-0.28/bin/python"
    elif "import litellm" in block:
        python = ROOT / ".venvs/frameworks/bin/python"
    return [str(python), "-c", block]


def environment_of(page: str) -> dict[str, str] | None:
    """What the page puts before `itsd serve`, if it begins with that."""
    start = re.search(r"^```sh\n((?:[A-Z_]+=\S+ )*)itsd serve$", page, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in start[1].split()) if start else None


def run_as_it_stands(daemon: Daemon, page: str, language: str, block: str) -> str:
    """What an example prints; it must succeed."""
    finished = subprocess.run(
        command(language, block),
        # LiteLLM would otherwise fetch a list of prices from the network.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, f"{page}:\n{block}\nanswered\n{finished.stdout}\n{daemon.log_text()}"
    return finished.stdout


def with_examples() -> list:
    return [pytest.param(page, id=page.name) for page in PAGES if page.exists() and examples(page.read_text())]


def test_the_readme_shows_both_kinds_of_client():
    languages = [language for language, _ in examples((ROOT / "README.md").read_text())]
    assert "bash" in languages and "python" in languages


def test_the_first_questions_of_the_readme_are_answered_out_of_the_box(tmp_path):
    section = re.search(r"^## Ask\n.*?(?=^## )", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    # Nothing configured and no key in the environment: the model that ships answers.
    daemon = Daemon(tmp_path)
    try:
        answers = [
            run_as_it_stands(daemon, "README.md", language, block.replace(":8108", f":{daemon.port}"))
            for language, block in examples(section[0])
        ]
    finally:
        assert daemon.stop() == 0
    assert len(answers) == 3
    assert all('"model":"arithmetic-demo"' in answer for answer in answers)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name.startswith("migrating-")], ids=lambda page: page.name)
def test_a_page_on_migration_says_how_to_start(page):
    assert environment_of(page.read_text()) is not None


@pytest.mark.parametrize("page", with_examples())
def test_every_example_of_a_page_works_as_it_stands(page, tmp_path, upstream):
    addresses = {f"{name}_BASE_URL": upstream.base_url for name in ("OPENAI", "OPENROUTER", "DEEPINFRA", "VLLM")}
    environment = environment_of(page.read_text())
    if environment is not None:
        daemon = Daemon(tmp_path, **addresses, **environment)
    else:
        # A reader who has a provider's key exported, so that the first configuration is that provider's.
        daemon = Daemon(tmp_path, **addresses, OPENAI_API_KEY="sk-reader")
    port = (environment or {}).get("PORT", "8108")
    try:
        for language, block in examples(page.read_text()):
            run_as_it_stands(daemon, page.name, language, block.replace(f":{port}", f":{daemon.port}"))
    finally:
        assert daemon.stop() == 0
    for request in upstream.seen():
        # What is ours was acted upon and not passed on to a provider that would ignore it.
        assert not re.search(r"-wait-\d+$", request["body"]["model"])
        assert not [name for name in request["body"] if name in OURS or name.startswith("tts_")]
