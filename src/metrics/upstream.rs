//! Calls to providers: attempts and how they ended, waits, and what is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::timing::Timing;

/// From an upstream on the same machine to models that think for long.
const FIRST_TOKEN_BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0];
const WAIT_BOUNDS: &[f64] = &[0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The word for an attempt that was answered.
const OK: &str = "ok";
/// The word for an attempt that was given up.
const CANCELLED: &str = "cancelled";

/// The counters of calls to one provider.
#[derive(Debug)]
pub struct UpstreamMetrics {
    provider: &'static str,
    attempts: Family<AttemptLabels, Counter>,
    ok: Counter,
    cancelled: Counter,
    retries: Counter,
    first_token: Timing,
    inflight: Gauge,
    queued: Gauge,
    queue_wait: Timing,
}

/// The attempts of one call, counted as they come to an end. One that is under way when this is dropped was
/// cancelled.
#[derive(Debug)]
pub struct AttemptMeter {
    upstream: Arc<UpstreamMetrics>,
    /// Whether an attempt is under way.
    is_under_way: bool,
    /// Whether one was made before.
    is_retry: bool,
}

/// A call that waits for its turn.
struct Waiting<'a>(&'a Gauge);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

/// The families that the counters of every provider belong to.
#[derive(Debug)]
pub(super) struct Families {
    attempts: Family<AttemptLabels, Counter>,
    retries: Family<ProviderLabels, Counter>,
    first_token: Family<ProviderLabels, Timing, fn() -> Timing>,
    inflight: Family<ProviderLabels, Gauge>,
    queued: Family<ProviderLabels, Gauge>,
    queue_wait: Family<ProviderLabels, Timing, fn() -> Timing>,
}

impl Families {
    pub fn register(registry: &mut Registry) -> Self {
        let families = Self::unregistered();
        registry.register(
            "upstream_attempts",
            "HTTP requests made to providers, by how they ended: ok, cancelled, unreachable, or a kind of failure",
            families.attempts.clone(),
        );
        registry.register(
            "upstream_retries",
            "HTTP requests made to providers because an earlier one of the same call had failed",
            families.retries.clone(),
        );
        registry.register_with_unit(
            "upstream_ttft",
            "Time from sending a request to the first token of a stream, or to the head of a whole answer",
            Unit::Seconds,
            families.first_token.clone(),
        );
        registry.register("inflight", "HTTP requests to providers that are under way", families.inflight.clone());
        registry.register("queued", "Calls that wait for their turn", families.queued.clone());
        registry.register_with_unit(
            "queue_wait",
            "Time that calls waited for their turn before an attempt",
            Unit::Seconds,
            families.queue_wait.clone(),
        );
        families
    }

    fn unregistered() -> Self {
        Self {
            attempts: Family::default(),
            retries: Family::default(),
            first_token: Family::new_with_constructor(|| Timing::new(FIRST_TOKEN_BOUNDS)),
            inflight: Family::default(),
            queued: Family::default(),
            queue_wait: Family::new_with_constructor(|| Timing::new(WAIT_BOUNDS)),
        }
    }

    pub fn of(&self, provider: &'static str) -> UpstreamMetrics {
        let labels = ProviderLabels { provider };
        let attempts = |outcome| self.attempts.get_or_create_owned(&AttemptLabels { provider, outcome });
        UpstreamMetrics {
            provider,
            ok: attempts(OK),
            cancelled: attempts(CANCELLED),
            attempts: self.attempts.clone(),
            retries: self.retries.get_or_create_owned(&labels),
            first_token: self.first_token.get_or_create_owned(&labels),
            inflight: self.inflight.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            queue_wait: self.queue_wait.get_or_create_owned(&labels),
        }
    }
}

impl UpstreamMetrics {
    /// Counters that no scrape tells of, for a provider that stands alone.
    pub fn unseen() -> Self {
        Families::unregistered().of("unseen")
    }

    /// Counts the attempts of a call.
    pub fn call(self: &Arc<Self>) -> AttemptMeter {
        AttemptMeter { upstream: Arc::clone(self), is_under_way: false, is_retry: false }
    }

    /// Waits for a turn, and counts that: as waiting meanwhile, and then how long it took. A wait that is given up is
    /// not told.
    pub async fn waiting<T>(&self, turn: impl Future<Output = T>) -> T {
        self.queued.inc();
        let waiting = Waiting(&self.queued);
        let began = Instant::now();
        let turn = turn.await;
        self.queue_wait.observe(began.elapsed());
        drop(waiting);
        turn
    }

    /// The first token of an attempt is here after so long, or the head of an answer that comes whole.
    pub fn first_token(&self, after: Duration) {
        self.first_token.observe(after);
    }

    fn ended(&self, outcome: &'static str) {
        match outcome {
            OK => self.ok.inc(),
            CANCELLED => self.cancelled.inc(),
            _ => self.attempts.get_or_create(&AttemptLabels { provider: self.provider, outcome }).inc(),
        };
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl AttemptMeter {
    /// An attempt is made.
    pub fn begun(&mut self) {
        self.close(CANCELLED);
        if std::mem::replace(&mut self.is_retry, true) {
            self.upstream.retries.inc();
        }
        self.upstream.inflight.inc();
        self.is_under_way = true;
    }

    /// The attempt was answered.
    pub fn answered(&mut self) {
        self.close(OK);
    }

    /// The attempt failed, for a reason that this word of ours stands for.
    pub fn failed(&mut self, outcome: &'static str) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: &'static str) {
        if std::mem::take(&mut self.is_under_way) {
            self.upstream.inflight.dec();
            self.upstream.ended(outcome);
        }
    }
}

impl Drop for AttemptMeter {
    fn drop(&mut self) {
        self.close(CANCELLED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(upstream: &UpstreamMetrics) -> (u64, u64, u64, i64) {
        (upstream.ok.get(), upstream.cancelled.get(), upstream.retries.get(), upstream.inflight.get())
    }

    #[test]
    fn each_attempt_ends_once_and_one_that_is_dropped_was_cancelled() {
        let upstream = Arc::new(UpstreamMetrics::unseen());
        let mut call = upstream.call();
        call.begun();
        assert_eq!(counts(&upstream), (0, 0, 0, 1));
        call.failed("rate_limited");
        call.failed("rate_limited");
        call.begun();
        call.answered();
        drop(call);
        assert_eq!(counts(&upstream), (1, 0, 1, 0));
        let limited = AttemptLabels { provider: "unseen", outcome: "rate_limited" };
        assert_eq!(upstream.attempts.get(&limited).unwrap().get(), 1);

        let mut given_up = upstream.call();
        given_up.begun();
        drop(given_up);
        drop(upstream.call());
        assert_eq!(counts(&upstream), (1, 1, 1, 0), "what never began is no attempt");
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_is_not_waiting_any_more() {
        let upstream = UpstreamMetrics::unseen();
        assert_eq!(upstream.waiting(async { upstream.queued.get() }).await, 1);
        let mut never = Box::pin(upstream.waiting(std::future::pending::<()>()));
        assert!(futures_util::poll!(&mut never).is_pending());
        assert_eq!(upstream.queued.get(), 1);
        drop(never);
        assert_eq!(upstream.queued.get(), 0);
    }
}
