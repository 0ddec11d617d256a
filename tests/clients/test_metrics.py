"""The metrics as Prometheus' own library reads them, in both of their texts."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "budget": 3, "stop_rule": "none"}


def scrape(daemon, accept: str) -> str:
    status, headers, body = daemon.call("GET", "/metrics", accept=accept)
    assert status == 200
    assert headers["content-type"].startswith(accept)
    return body.decode()


def samples(families) -> dict:
    """Name and labels of every sample, with its type. The scrapes themselves are left out, since each adds one."""
    return {
        (sample.name, *sorted(sample.labels.items())): family.type
        for family in families
        for sample in family.samples
        if sample.labels.get("path") != "/metrics"
    }


@pytest.fixture
def asked(remote):
    """A daemon that has something to tell."""
    assert remote.call("POST", "/v1/chat/completions", ASK)[0] == 200
    # Another request, so that the first one has been counted too.
    remote.call("GET", "/health")
    return remote


def test_both_texts_tell_the_same_and_are_read_without_complaint(asked):
    openmetrics = list(read_openmetrics(scrape(asked, "application/openmetrics-text")))
    prometheus = list(read_prometheus(scrape(asked, "text/plain")))
    assert len(openmetrics) > 15
    newer, older = samples(openmetrics), samples(prometheus)
    # The older text knows no info: there it is a gauge.
    newer = {name: "gauge" if kind == "info" else kind for name, kind in newer.items()}
    assert newer == older
    assert all(family.documentation for family in openmetrics + prometheus)
    units = {family.name: family.unit for family in openmetrics}
    assert units["itsd_overhead_seconds"] == "seconds"
    assert units["itsd_cost_usd"] == "usd"


def test_histograms_are_whole(asked):
    text = scrape(asked, "text/plain")
    [overhead] = [family for family in read_prometheus(text) if family.name == "itsd_overhead_seconds"]
    of_run = [sample for sample in overhead.samples if sample.labels["algorithm"] == "self-consistency"]
    buckets = [(float(sample.labels["le"]), sample.value) for sample in of_run if sample.name.endswith("_bucket")]
    [count] = [sample.value for sample in of_run if sample.name.endswith("_count")]
    assert buckets[0][0] == 0.00005
    assert buckets == sorted(buckets)
    assert buckets[-1] == (float("inf"), count)
