"""Two daemons for the whole run: one answers with the model that ships, one asks the scripted upstream."""

import importlib.util

import pytest
from harness import Daemon, Upstream
from openai import AsyncOpenAI, OpenAI

# Other versions of the same libraries, which live in an environment of their own: `scripts/test` runs both.
collect_ignore = [] if importlib.util.find_spec("litellm") else ["frameworks"]

# Planted as the provider's key; no test may ever see it in a log or an answer.
CANARY = "sk-canary-8d1f0c7be2"


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """A daemon with the model that ships, configured as the README has it."""
    daemon = Daemon(tmp_path_factory.mktemp("local"))
    daemon.configure(
        provider="llama", model="arithmetic-demo", alg="self-consistency", budget=16, temperature=0.8, seed=7
    )
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture(scope="session")
def upstream_process():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(upstream_process):
    """The scripted upstream with nothing scripted and nothing counted."""
    upstream_process.control(reset=True)
    return upstream_process


@pytest.fixture(scope="session")
def remote_process(tmp_path_factory, upstream_process):
    daemon = Daemon(tmp_path_factory.mktemp("remote"), OPENAI_BASE_URL=upstream_process.base_url)
    yield daemon
    assert daemon.stop() == 0
    assert CANARY not in daemon.log_text()


@pytest.fixture
def remote(remote_process, upstream):
    """A daemon whose provider is the upstream: every model name, four candidates, no retries."""
    remote_process.configure(
        provider="openai",
        endpoint="auto",
        api_key=CANARY,
        model="gpt-4o-mini",
        alg="self-consistency",
        budget=4,
        allow_any_model=True,
        max_retries=0,
    )
    return remote_process


def client_of(daemon: Daemon) -> OpenAI:
    return OpenAI(base_url=f"{daemon.url}/v1", api_key="dummy-key")


@pytest.fixture
def ask_local(local):
    with client_of(local) as client:
        yield client


@pytest.fixture
def ask_remote(remote):
    with client_of(remote) as client:
        yield client


@pytest.fixture
def async_remote(remote):
    """For use inside an event loop of the test's own, which also closes it."""
    return AsyncOpenAI(base_url=f"{remote.url}/v1", api_key="dummy-key")
