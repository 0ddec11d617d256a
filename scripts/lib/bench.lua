-- Load for wrk: posts $BENCH_BODY, and ends with one line of figures that scripts/bench reads.

wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["content-type"] = "application/json"

-- Requests per second, p50 and p99 in microseconds, failed requests.
function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout
  io.write(string.format("figures %.1f %.0f %.0f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), failed))
end
