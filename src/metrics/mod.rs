//! What is counted and timed, for Prometheus: every name, unit, label and help text in one place.
//!
//! Counting costs an atomic addition or two, since it happens several times in every request. The labels are words of
//! ours alone (route patterns, names of algorithms and providers, kinds of failure): neither a key nor a text that a
//! client chose becomes one, so that their number is bounded and nothing leaks. What only has a value at a moment,
//! such as the active revision, is not kept here but told by whoever asks for the text.

mod engines;
mod exposition;
mod process;
mod requests;
mod runs;
mod timing;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use engines::Engines;
pub use exposition::Format;
pub use requests::{Ended, RequestMetrics};
pub use runs::{PhaseMetrics, RunMetrics, Tokens};
pub use upstream::{AttemptMeter, UpstreamMetrics};

/// What the names of our own begin with. Those of the process have the names that every exporter gives them.
const PREFIX: &str = "itsd";

/// Everything that the daemon counts. One for a daemon, shared by all who count.
pub struct Metrics {
    pub requests: RequestMetrics,
    pub runs: RunMetrics,
    upstreams: upstream::Families,
    registry: Registry,
    started: SystemTime,
}

/// What has a value only at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// The active revision; `None` where no configuration is active.
    pub config_revision: Option<i64>,
    /// By provider and state of the circuit breaker, how many models are in that state.
    pub breakers: BTreeMap<(&'static str, &'static str), u64>,
    pub engines: Engines,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    provider: &'static str,
    state: &'static str,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        Self {
            requests: RequestMetrics::register(&mut registry),
            runs: RunMetrics::register(&mut registry),
            upstreams: upstream::Families::register(&mut registry),
            registry,
            started: SystemTime::now(),
        }
    }

    /// The counters of calls to the provider of this name, the same ones whoever asks.
    pub fn upstream(&self, provider: &'static str) -> Arc<UpstreamMetrics> {
        Arc::new(self.upstreams.of(provider))
    }

    /// All of it as a scraper reads it, with what is true at this moment.
    pub fn expose(&self, moment: &Moment, format: Format) -> String {
        let mut at_this_moment = Registry::with_prefix(PREFIX);
        if let Some(revision) = moment.config_revision {
            let help = "The revision of the active configuration, 0 for the model that ships";
            at_this_moment.register("config_revision", help, ConstGauge::new(revision));
        }
        let breakers: Family<BreakerLabels, Gauge> = Family::default();
        for (&(provider, state), &models) in &moment.breakers {
            let models = i64::try_from(models).unwrap_or(i64::MAX);
            breakers.get_or_create(&BreakerLabels { provider, state }).set(models);
        }
        let help = "Models of a provider by the state of their circuit breaker";
        at_this_moment.register("breaker_state", help, breakers);
        moment.engines.register(&mut at_this_moment);
        let process = process::registry(self.started);
        let mut text = String::with_capacity(16 << 10);
        for registry in [&self.registry, &at_this_moment, &process] {
            encode_registry(&mut text, registry).expect("writing to memory does not fail");
        }
        format.finish(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failure::FailureKind;

    #[test]
    fn every_family_that_was_counted_is_told_with_help_and_type() {
        let metrics = Metrics::new();
        metrics.requests.begun();
        metrics.requests.ended(Ended {
            path: "/v1/chat/completions",
            algorithm: "best-of-n",
            status: 200,
            duration: Duration::from_millis(30),
            overhead: Some(Duration::from_micros(70)),
        });
        metrics.runs.candidates("best-of-n", "completed", 3);
        metrics.runs.judge_failed(FailureKind::Timeout);
        metrics.runs.judge.spent(&Tokens { prompt: 7, cost_usd: 0.25, ..Tokens::default() });
        metrics.runs.judge.spent(&Tokens { cost_usd: f64::NAN, ..Tokens::default() });
        metrics.runs.judge.spent(&Tokens { cost_usd: -1.0, ..Tokens::default() });
        metrics.upstream("groq").call().begun();
        let breakers = BTreeMap::from([(("groq", "closed"), 2), (("groq", "open"), 0)]);
        let text = metrics
            .expose(&Moment { config_revision: Some(3), breakers, engines: Engines::default() }, Format::Prometheus);
        for family in [
            "itsd_requests_total counter",
            "itsd_requests_inflight gauge",
            "itsd_request_duration_seconds histogram",
            "itsd_overhead_seconds histogram",
            "itsd_candidates_total counter",
            "itsd_tokens_total counter",
            "itsd_unknown_usage_calls_total counter",
            "itsd_cost_usd_total counter",
            "itsd_saved_tokens_total counter",
            "itsd_judge_failures_total counter",
            "itsd_upstream_attempts_total counter",
            "itsd_upstream_retries_total counter",
            "itsd_upstream_ttft_seconds histogram",
            "itsd_inflight gauge",
            "itsd_queued gauge",
            "itsd_queue_wait_seconds histogram",
            "itsd_config_revision gauge",
            "itsd_breaker_state gauge",
            "itsd_build_info gauge",
            "process_start_time_seconds gauge",
        ] {
            assert!(text.contains(&format!("# TYPE {family}\n")), "{family} is not in\n{text}");
            let name = family.split_once(' ').unwrap().0;
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
        for sample in [
            "itsd_requests_total{path=\"/v1/chat/completions\",algorithm=\"best-of-n\",status=\"200\"} 1",
            "itsd_overhead_seconds_bucket{le=\"0.00005\",algorithm=\"best-of-n\"} 0",
            "itsd_overhead_seconds_bucket{le=\"0.0001\",algorithm=\"best-of-n\"} 1",
            "itsd_requests_inflight 0",
            "itsd_candidates_total{algorithm=\"best-of-n\",outcome=\"completed\"} 3",
            "itsd_tokens_total{phase=\"judge\",kind=\"prompt\"} 7",
            "itsd_cost_usd_total{phase=\"judge\"} 0.25",
            "itsd_judge_failures_total{kind=\"upstream_timeout\"} 1",
            "itsd_upstream_attempts_total{provider=\"groq\",outcome=\"cancelled\"} 1",
            "itsd_config_revision 3",
            "itsd_breaker_state{provider=\"groq\",state=\"closed\"} 2",
            "itsd_breaker_state{provider=\"groq\",state=\"open\"} 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
        }
    }

    #[test]
    fn a_daemon_without_a_configuration_tells_no_revision() {
        let text = Metrics::new().expose(&Moment::default(), Format::Prometheus);
        assert!(!text.contains("itsd_config_revision"), "{text}");
    }
}
