"""The examples of README.md and docs/ work as they stand: every `bash` block that begins with `curl` and every
`python` block is run in order, with nothing changed but the port."""

import re
import subprocess
import sys

import pytest
from harness import ROOT, Daemon

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# A refused request must fail the example, as it would disappoint its reader.
CURL_THAT_FAILS = 'curl() { command curl --fail-with-body --silent --show-error "$@"; }\n'


def examples(text: str) -> list[tuple[str, str]]:
    """The (language, text) of the examples of a page, in order."""
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in blocks if language == "python" or block.startswith("curl")]


def with_examples() -> list:
    return [pytest.param(page, id=page.name) for page in PAGES if page.exists() and examples(page.read_text())]


def test_the_readme_shows_both_kinds_of_client():
    languages = [language for language, _ in examples((ROOT / "README.md").read_text())]
    assert "bash" in languages and "python" in languages


@pytest.mark.parametrize("page", with_examples())
def test_every_example_of_a_page_works_as_it_stands(page, tmp_path, upstream):
    # A reader who has a provider's key still begins with the model that ships, as the page does.
    settings = tmp_path / "itsd.toml"
    settings.write_text('[active]\nprovider = "llama"\nmodel = "arithmetic-demo"\n')
    daemon = Daemon(tmp_path, "--config", str(settings), OPENAI_BASE_URL=upstream.base_url, OPENAI_API_KEY="sk-reader")
    try:
        for language, block in examples(page.read_text()):
            block = block.replace(":8108", f":{daemon.port}")
            if language == "bash":
                command = ["bash", "-euo", "pipefail", "-c", CURL_THAT_FAILS + block]
            else:
                command = [sys.executable, "-c", block]
            finished = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
            )
            assert finished.returncode == 0, f"{page.name}:\n{block}\nanswered\n{finished.stdout}\n{daemon.log_text()}"
    finally:
        assert daemon.stop() == 0
