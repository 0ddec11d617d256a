"""The OpenAPI document is true: schemathesis makes requests of it, right ones and wrong ones, and the daemon answers them
as the document says. The daemon's providers are all the scripted upstream, so that nothing leaves this machine."""

import subprocess

import pytest
from harness import ROOT, Daemon

SCHEMATHESIS = ROOT / ".venvs/schemathesis/bin/schemathesis"
PROVIDERS = ["OPENAI", "OPENROUTER", "DEEPINFRA", "GROQ", "TOGETHER", "VLLM", "LLAMA_SERVER", "OLLAMA", "LMSTUDIO"]


@pytest.fixture
def daemon(tmp_path, upstream):
    addresses = {f"{provider}_BASE_URL": upstream.base_url for provider in PROVIDERS}
    daemon = Daemon(tmp_path, **addresses)
    daemon.configure(
        provider="openai",
        api_key="sk-test",
        model="gpt-4o-mini",
        # The document's examples name the model that ships, which would take its time.
        model_mapping={"arithmetic-demo": "gpt-4o-mini"},
        budget=2,
        allow_any_model=True,
        max_retries=0,
    )
    yield daemon
    assert daemon.stop() == 0
    assert "panicked" not in daemon.log_text()


# Configurations are changed apart from chatting, which would otherwise follow them anywhere.
@pytest.mark.parametrize("tags", [["chat", "models", "operation"], ["configuration"]], ids=["chat", "configuration"])
def test_the_daemon_does_what_its_document_says(daemon, tmp_path, tags):
    command = [SCHEMATHESIS, "--config-file", ROOT / "tests/clients/schemathesis.toml"]
    command += ["run", f"{daemon.url}/openapi.json", "--no-color", "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", "20", "--generation-deterministic", "--continue-on-failure"]
    for tag in tags:
        command += ["--include-tag", tag]
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stdout
