//! How soon the connections to the upstream are closed once nobody will read what comes over them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Connection, Daemon, question};
use crate::upstream::{Point, Step, Upstream};
use crate::{ms, row};

/// Times that each way to end is measured; the longest counts.
const TIMES: usize = 10;
const BUDGET: u64 = 8;
/// So many of them decide a vote.
const MAJORITY: u64 = 5;
const DEADLINE: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_millis(100);

/// Why calls end that still run.
#[derive(Debug, Clone, Copy)]
enum End {
    Disconnect,
    Decided,
    Deadline,
    Endpoint,
    Shutdown,
}

/// Measures every way to end, for whole answers and for streams.
pub async fn measure() {
    for (end, words) in [
        (End::Disconnect, "the client left"),
        (End::Decided, "the vote was decided"),
        (End::Deadline, "the deadline passed"),
        (End::Endpoint, "POST /v1/chat/cancel"),
        (End::Shutdown, "the daemon was told to stop at once"),
    ] {
        for (stream, kind) in [(false, "plain"), (true, "streaming")] {
            let upstream = Upstream::start().await;
            let mut daemon = Daemon::start(&upstream, json!({})).await;
            let mut longest = Duration::ZERO;
            for turn in 0..TIMES {
                if matches!(end, End::Shutdown) && turn > 0 {
                    daemon = Daemon::start(&upstream, json!({})).await;
                }
                longest = longest.max(once(end, stream, &upstream, &daemon).await);
            }
            row(&format!("upstream connections closed after {words}, {kind}, at most"), ms(longest), ms(MOST), "ms");
        }
    }
}

/// From the moment that the rest of the calls has no use any more until the last of their connections is closed.
async fn once(end: End, stream: bool, upstream: &Upstream, daemon: &Daemon) -> Duration {
    let before = upstream.counters();
    let is_decided = matches!(end, End::Decided);
    let first = before.requests;
    let gate = format!("from {first}");
    upstream.answer_with({
        let gate = gate.clone();
        move |seen| match is_decided && seen.number - first < MAJORITY {
            true => Step::content("The answer is \\boxed{42}.").gated(&gate),
            false => Step::hang_at(Point::Request),
        }
    });
    let limits = if matches!(end, End::Deadline) { json!({"deadline_ms": ms(DEADLINE)}) } else { json!({}) };
    let body = question(json!({"budget": BUDGET, "stream": stream, "limits": limits}));
    let mut client = Connection::open(daemon.address).await;
    let asked = Instant::now();
    client.post("/v1/chat/completions", "asked", &body).await;
    upstream.wait_for(|counters| counters.in_flight == BUDGET).await;
    let ended = match end {
        End::Disconnect => {
            drop(client);
            Instant::now()
        }
        End::Decided => {
            upstream.open_gate(&gate);
            client.read_until(b"boxed{42}").await;
            Instant::now()
        }
        End::Deadline => asked + DEADLINE,
        End::Endpoint => {
            let mut other = Connection::open(daemon.address).await;
            let now = Instant::now();
            other.post("/v1/chat/cancel/asked", "cancels", &json!({})).await;
            now
        }
        End::Shutdown => {
            // The first signal lets running requests finish.
            daemon.terminate();
            daemon.wait_for_log("stopping").await;
            let now = Instant::now();
            daemon.terminate();
            now
        }
    };
    upstream.wait_for(|counters| counters.in_flight == 0).await;
    let closed_early = upstream.counters().closed_early - before.closed_early;
    let expected = if is_decided { BUDGET - MAJORITY } else { BUDGET };
    assert_eq!(closed_early, expected, "the calls that still ran were cancelled");
    ended.elapsed()
}
