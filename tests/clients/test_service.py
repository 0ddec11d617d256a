"""The daemon as an operator meets it: it tells systemd what it does, stops without losing a request, comes back with
its configuration, and is installed and removed cleanly."""

import os
import re
import subprocess
import threading

import openai
import pytest
from conftest import client_of
from harness import ITSD, PATIENCE_S, ROOT, Daemon

QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
ASK = {**QUESTION, "budget": 1}


@pytest.fixture
def start(tmp_path, upstream):
    """Starts daemons on one state directory; the upstream is their provider."""
    started = []

    def start_one(*arguments, **environment) -> Daemon:
        started.append(Daemon(tmp_path, *arguments, OPENAI_BASE_URL=upstream.base_url, **environment))
        return started[-1]

    yield start_one
    for daemon in started:
        daemon.process.kill()


def configure(daemon: Daemon) -> None:
    daemon.configure(provider="openai", api_key="sk-test", model="gpt-4o-mini", max_retries=0)


def test_a_stop_lets_the_running_request_finish(start, upstream):
    daemon = start()
    configure(daemon)
    upstream.always({"content": "worth waiting for", "gate": "answer"})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(daemon.call("POST", "/v1/chat/completions", ASK)))
    asking.start()
    upstream.wait_for(in_flight=1)

    daemon.signal_stop()
    daemon.expect_notification("STOPPING=1")
    upstream.control(open=["answer"])
    asking.join()
    [(status, _, body)] = answers
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "worth waiting for"
    assert daemon.stop() == 0
    assert not daemon.port_file.exists()


def test_a_stop_cancels_upstream_what_does_not_finish_in_time(start, upstream):
    daemon = start(SHUTDOWN_TIMEOUT="0")
    configure(daemon)
    upstream.always({"gate": "never"})

    def ask() -> None:
        # The answer is an error or a closed connection, as it happens.
        try:
            daemon.call("POST", "/v1/chat/completions", ASK)
        except OSError:
            pass

    asking = threading.Thread(target=ask)
    asking.start()
    upstream.wait_for(in_flight=1)
    assert daemon.stop() == 0
    upstream.wait_for(in_flight=0, closed_early=1)
    asking.join()


def test_a_stop_lets_a_running_stream_come_to_its_end(start, upstream):
    daemon = start()
    configure(daemon)
    upstream.always({"content": "one two three", "stream_gate": "rest"})
    with client_of(daemon) as client:
        stream = client.chat.completions.create(**QUESTION, stream=True, extra_body={"budget": 1})
        heard = []
        for chunk in stream:
            heard.append(chunk.choices[0].delta.content or "")
            if heard[-1] == "one ":
                daemon.signal_stop()
                daemon.expect_notification("STOPPING=1")
                upstream.control(open=["rest"])
    assert "".join(heard) == "one two three"
    assert daemon.stop() == 0
    assert upstream.counters()["closed_early"] == 0


def test_a_stop_tells_the_clients_whose_answers_do_not_come_in_time(start, upstream):
    daemon = start(SHUTDOWN_TIMEOUT="1")
    daemon.configure(provider="openai", api_key="sk-test", model="whole", allow_any_model=True, max_retries=0)
    upstream.always({"content": "one two three", "stream_gate": "never"}, model="streamed")
    upstream.always({"gate": "never"}, model="whole")
    failures = []

    def ask(stream: bool) -> None:
        with client_of(daemon) as client:
            with pytest.raises(openai.APIError) as raised:
                answer = client.chat.completions.create(
                    model="streamed" if stream else "whole",
                    messages=QUESTION["messages"],
                    stream=stream,
                    extra_body={"budget": 1},
                )
                for _ in answer:
                    begun.set()
        failures.append(raised.value)

    begun = threading.Event()
    asking = [threading.Thread(target=ask, args=[stream]) for stream in (True, False)]
    for thread in asking:
        thread.start()
    upstream.wait_for(in_flight=2)
    assert begun.wait(PATIENCE_S)
    assert daemon.stop() == 0
    for thread in asking:
        thread.join(PATIENCE_S)
    assert len(failures) == 2
    for failure in failures:
        assert "the daemon stops" in failure.message
    upstream.wait_for(in_flight=0)
    # Neither client asks again.
    assert upstream.counters()["requests"] == 2


def test_a_second_signal_ends_it_at_once(start, upstream):
    daemon = start()
    configure(daemon)
    upstream.always({"gate": "never"})

    def ask() -> None:
        try:
            daemon.call("POST", "/v1/chat/completions", ASK)
        except OSError:
            pass

    asking = threading.Thread(target=ask)
    asking.start()
    upstream.wait_for(in_flight=1)
    daemon.signal_stop()
    daemon.expect_notification("STOPPING=1")
    daemon.signal_stop()
    daemon.process.wait(20)
    asking.join()


def test_the_watchdog_is_fed_when_systemd_asks_for_it(start):
    daemon = start(WATCHDOG_USEC="200000")
    daemon.expect_notification("WATCHDOG=1")
    daemon.expect_notification("WATCHDOG=1")
    assert daemon.stop() == 0


def test_the_configuration_survives_a_restart_and_a_kill(start):
    daemon = start()
    configure(daemon)
    before = daemon.call("GET", "/configure")[2]
    daemon.process.kill()
    daemon.process.wait()
    daemon = start()
    after = daemon.call("GET", "/configure")[2]
    assert (after["revision"], after["model"]) == (before["revision"], "gpt-4o-mini")
    assert daemon.stop() == 0


def test_one_line_is_logged_a_request_and_it_holds_no_text_of_it(start, upstream):
    daemon = start(LOG_LEVEL="info")
    configure(daemon)
    upstream.always({"content": "a secret answer"})
    question = {**ASK, "messages": [{"role": "user", "content": "a secret question"}]}
    _, headers, _ = daemon.call("POST", "/v1/chat/completions", question)
    assert daemon.stop() == 0
    log = daemon.log_text()
    assert len([line for line in log.splitlines() if headers["x-request-id"] in line]) == 1
    assert "secret" not in log
    assert "sk-test" not in log


def test_a_port_that_is_taken_is_told_with_its_number(start, tmp_path):
    daemon = start()
    second = subprocess.run(
        [ITSD, "serve", "--port", str(daemon.port), "--state-dir", tmp_path / "other", "--port-file", tmp_path / "other-port"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert str(daemon.port) in second.stdout
    assert not (tmp_path / "other-port").exists()
    assert daemon.call("GET", "/health")[0] == 200


def test_an_address_that_others_reach_is_refused_with_the_ways_out(tmp_path):
    refused = subprocess.run(
        [ITSD, "serve", "--host", "0.0.0.0", "--port", "0", "--state-dir", tmp_path],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 78
    assert "--allow-unauthenticated" in refused.stdout
    assert "ssh -N -L" in refused.stdout


def test_health_and_readiness(start):
    daemon = start()
    status, _, health = daemon.call("GET", "/health")
    assert (status, health["status"]) == (200, "healthy")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", health["timestamp"])
    assert daemon.call("GET", "/ready")[0] == 200
    assert daemon.stop() == 0


def install(destination, *arguments) -> None:
    subprocess.run(
        [ROOT / "scripts/install", *arguments],
        env={**os.environ, "DESTDIR": str(destination)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )


def files_below(directory) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_an_installed_daemon_starts_with_the_installed_model_and_settings(tmp_path):
    destination = tmp_path / "root"
    install(destination, "--binary", ITSD)
    binary = destination / "usr/local/bin/itsd"
    settings = destination / "etc/itsd/itsd.toml"
    subprocess.run([binary, "check-config", settings], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    unit = (destination / "usr/local/lib/systemd/system/itsd.service").read_text()
    assert "ExecStart=/usr/local/bin/itsd serve --config /etc/itsd/itsd.toml" in unit

    settings.write_text("# the operator's own\n")
    install(destination, "--binary", ITSD, "--gpu")
    assert settings.read_text() == "# the operator's own\n"
    assert (destination / "usr/local/lib/systemd/system/itsd.service.d/gpu.conf").exists()

    install(destination, "--uninstall")
    assert files_below(destination) == {"etc/itsd/itsd.toml"}
