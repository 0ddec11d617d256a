//! Requests of clients: how many, how long, and how much of that was the daemon's own.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::timing::Timing;

/// From what is answered from memory to the longest runs.
const DURATION_BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    600.0,
];
/// Fine where a fast daemon has its overhead; the rest is for queues and pauses before another attempt.
const OVERHEAD_BOUNDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Debug)]
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    inflight: Gauge,
    duration: Family<PathLabels, Timing, fn() -> Timing>,
    overhead: Family<AlgorithmLabels, Timing, fn() -> Timing>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The pattern of the route, never the path that the client wrote.
    pub path: &'static str,
    /// Empty for requests that are no runs.
    pub algorithm: &'static str,
    /// 499 where the client went away before the end.
    pub status: u16,
    pub duration: Duration,
    /// The time in which nothing was under way upstream; `None` for requests that made no call.
    pub overhead: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    path: &'static str,
    algorithm: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: &'static str,
    algorithm: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlgorithmLabels {
    algorithm: &'static str,
}

impl RequestMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            inflight: Gauge::default(),
            duration: Family::new_with_constructor(|| Timing::new(DURATION_BOUNDS)),
            overhead: Family::new_with_constructor(|| Timing::new(OVERHEAD_BOUNDS)),
        };
        registry.register(
            "requests",
            "Requests that have ended, by route, algorithm and status; 499 where the client went away first",
            metrics.requests.clone(),
        );
        registry.register("requests_inflight", "Requests that have not ended yet", metrics.inflight.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the last byte of its response",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_with_unit(
            "overhead",
            "Time of a request in which none of its upstream calls was under way",
            Unit::Seconds,
            metrics.overhead.clone(),
        );
        metrics
    }

    /// A request has come, of which [`RequestMetrics::ended`] will tell the end.
    pub fn begun(&self) {
        self.inflight.inc();
    }

    pub fn ended(&self, ended: Ended) {
        let Ended { path, algorithm, status, duration, overhead } = ended;
        self.inflight.dec();
        self.requests.get_or_create(&RequestLabels { path, algorithm, status }).inc();
        self.duration.get_or_create(&PathLabels { path, algorithm }).observe(duration);
        if let Some(overhead) = overhead {
            self.overhead.get_or_create(&AlgorithmLabels { algorithm }).observe(overhead);
        }
    }
}
