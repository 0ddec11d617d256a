"""openai-node against the daemon: the programs in `node/`, each run by Node's own test runner."""

import os
import subprocess

import pytest
from harness import ROOT

PROGRAMS = ROOT / "tests/clients/node"


@pytest.mark.parametrize("program", sorted(path.name for path in PROGRAMS.glob("*.test.js")))
def test_openai_node(program, remote, upstream):
    finished = subprocess.run(
        ["node", "--test", "--test-reporter", "spec", program],
        cwd=PROGRAMS,
        env={"PATH": os.environ["PATH"], "ITSD_URL": remote.url, "UPSTREAM_URL": upstream.base_url.removesuffix("/v1")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout
