"""Where settings come from, as an operator meets it: files in three formats, .env, variables and options; what the
command line shows of them; and reading the file again while the daemon runs."""

import json
import os
import signal
import subprocess
import time

import pytest
from harness import ITSD, PATIENCE_S, ROOT, Daemon

ACTIVE = {"provider": "openai-compatible", "endpoint": "http://127.0.0.1:9/v1", "model": "first"}


@pytest.fixture
def start(tmp_path, upstream):
    started = []

    def start_one(*arguments, **environment) -> Daemon:
        started.append(Daemon(tmp_path, *arguments, **environment))
        return started[-1]

    yield start_one
    for daemon in started:
        daemon.stop()


def itsd(directory, *arguments, **environment):
    """Runs the program to its end in a directory: exit status, standard output, standard error."""
    finished = subprocess.run(
        [ITSD, *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
    )
    return finished.returncode, finished.stdout, finished.stderr


def write(path, server: dict, active: dict):
    path.write_text(json.dumps({"server": server, "active": active}))


def wait_for(daemon: Daemon, told) -> None:
    """Waits until the daemon's log tells something."""
    deadline = time.monotonic() + PATIENCE_S
    while told not in daemon.log_text():
        assert daemon.process.poll() is None and time.monotonic() < deadline, daemon.log_text()
        time.sleep(0.02)


def test_a_variable_that_comes_too_late_is_told_with_the_revision_that_stays(start):
    daemon = start()
    daemon.configure(provider="openai-compatible", endpoint="http://127.0.0.1:9/v1", model="configured")
    assert daemon.stop() == 0
    told = "OPENAI_API_KEY is set, but revision 1 stays active"
    assert told not in daemon.log_text()
    daemon = start(OPENAI_API_KEY="sk-secret")
    assert daemon.call("GET", "/configure")[2]["model"] == "configured"
    log = daemon.log_text()
    assert log.count(told) == 1 and "--state-dir" in log and "sk-secret" not in log, log
    # Once the configuration uses the variable, there is nothing to tell.
    daemon.configure(provider="openai", model="gpt-4o-mini")
    assert daemon.stop() == 0
    assert start(OPENAI_API_KEY="sk-secret").log_text().count("OPENAI_API_KEY is set") == 1


def test_variables_of_earlier_services_that_are_not_read_are_told_once(start):
    quiet = start(PORT="0", ENABLE_CACHE="false")
    assert "not read by this version" not in quiet.log_text()
    quiet.stop()
    log = start(HEAVY_MODEL_PATH="/models/heavy.gguf", ENABLE_CACHE="true").log_text()
    told = [line for line in log.splitlines() if "not read by this version" in line]
    assert len(told) == 1 and "HEAVY_MODEL_PATH, ENABLE_CACHE" in told[0], log


def test_sighup_applies_a_changed_active_table_and_names_what_needs_a_restart(start, tmp_path):
    settings = tmp_path / "itsd.json"
    write(settings, {}, ACTIVE)
    daemon = start("--config", settings)
    assert daemon.call("GET", "/configure")[2]["origin"]["model"] == "file"
    write(settings, {"body_limit_bytes": 4096}, {**ACTIVE, "model": "second"})
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(daemon, "`[active]` was applied")
    shown = daemon.call("GET", "/configure")[2]
    assert (shown["revision"], shown["model"]) == (2, "second")
    assert "server.body_limit_bytes" in daemon.log_text()

    settings.write_text('{"active": {"model": "sk-secret')
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(daemon, "nothing of it was applied")
    assert daemon.call("GET", "/configure")[2]["revision"] == 2
    assert "sk-secret" not in daemon.log_text()


def test_in_development_the_file_is_applied_when_it_changes(start, tmp_path):
    settings = tmp_path / "itsd.json"
    write(settings, {}, ACTIVE)
    daemon = start("--config", settings, "--dev")
    changed = tmp_path / "changed.json"
    write(changed, {}, {**ACTIVE, "model": "second"})
    changed.replace(settings)
    wait_for(daemon, "`[active]` was applied")
    assert daemon.call("GET", "/configure")[2]["model"] == "second"


def test_a_dotenv_file_configures_a_daemon_and_the_environment_wins(start, tmp_path, upstream):
    (tmp_path / ".env").write_text(
        f"export DEEPINFRA_API_KEY=sk-of-the-file # mine\nDEEPINFRA_BASE_URL='{upstream.base_url}'\nLOG_LEVEL=error\n"
    )
    daemon = start(LOG_LEVEL="info")
    name = "meta-llama/Meta-Llama-3.1-8B-Instruct"
    ask = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "budget": 1}
    assert daemon.call("POST", "/v1/chat/completions", ask)[0] == 200
    assert upstream.seen()[0]["headers"]["authorization"] == "Bearer sk-of-the-file"
    assert "the environment does" in daemon.log_text()
    assert "sk-of-the-file" not in daemon.log_text()


def test_config_show_tells_every_setting_and_where_it_came_from(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/itsd.toml").write_text(
        '[llama]\nthreads = 3\n[active]\nmodel = "m"\napi_key = "sk-literal-0123456789"\n'
    )
    (tmp_path / "my.env").write_text("HOST=localhost\nPORT=1\n")
    status, shown, _ = itsd(tmp_path, "config", "show", "--origin", "--env-file", "my.env", PORT="8001")
    assert status == 0
    lines = shown.splitlines()
    assert "server.port = 8001  # environment PORT" in lines
    assert 'server.host = "localhost"  # .env my.env HOST' in lines
    assert "llama.threads = 3  # file configs/itsd.toml" in lines
    assert "llama.max_sequences = 32  # default" in lines
    assert 'active.model = "m"  # file configs/itsd.toml' in lines
    assert "literal" not in shown
    status, plain, _ = itsd(tmp_path, "config", "show")
    assert (status, "#" in plain.replace("is not set", "").split("server.port", 1)[0]) == (0, False)
    status, _, told = itsd(tmp_path, "config", "show", "--env-file", "none.env")
    assert (status, "none.env" in told) == (78, True)


def test_config_schema_is_the_schema_of_the_file(tmp_path):
    status, printed, _ = itsd(tmp_path, "config", "schema")
    schema = json.loads(printed)
    assert status == 0
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["server"]["properties"]["port"]["maximum"] == 65535
    assert schema["properties"]["active"]["properties"]["budget"]["default"] == 8


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("a.toml", '[server]\nprot = 1\n[active]\napi_key = "sk-secret"\n', "did you mean `port`"),
        ("a.yaml", "server:\n  prot: 1\nactive:\n  api_key: sk-secret\n", "did you mean `port`"),
        ("a.json", '{"server": {"prot": 1}, "active": {"api_key": "sk-secret"}}', "did you mean `port`"),
        ("a.toml", '[active]\nmodel = "m"\nbuget = "sk-secret"\n', "did you mean `budget`"),
        ("a.yaml", "active:\n  model: m\n  buget: sk-secret\n", "did you mean `budget`"),
        ("a.json", '{"active": {"model": "m", "buget": "sk-secret"}}', "did you mean `budget`"),
        ("a.toml", '[active]\nmodel = "m"\napi_key = "sk-secret\n', "line 3"),
        ("a.yaml", 'active:\n  model: m\n  api_key: "sk-secret\n x: [\n', "line"),
        ("a.json", '{"active": {"model": "m",\n"api_key": "sk-secret" "}}', "line 2"),
        ("a.toml", 'active = "sk-secret"\n', "active"),
        ("a.yaml", "active: sk-secret\n", "active"),
        ("a.json", '{"active": ["sk-secret"]}', "active"),
        ("a.json", '["sk-secret"]', "a.json"),
    ],
)
def test_a_wrong_file_is_told_with_its_place_and_never_quoted(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    status, output, error = itsd(tmp_path, "check-config", name)
    assert status == 78
    assert told in error, error
    assert "sk-secret" not in output + error


def test_the_example_of_variables_that_ships_is_one_that_is_read(tmp_path):
    example = (ROOT / ".env.example").read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and "=" in line.split(" ")[1] else line
        for line in example.splitlines()
    )
    (tmp_path / ".env").write_text(uncommented)
    status, shown, error = itsd(tmp_path, "config", "show", "--origin")
    assert status == 0, error
    assert "server.port = 8108  # .env .env PORT" in shown
    assert 'outbound.allow_http = ["gpu-1", "gpu-2:8000"]  # .env .env ITSD__OUTBOUND__ALLOW_HTTP' in shown
