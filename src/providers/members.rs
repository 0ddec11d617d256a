//! The members of a provider, and what holds for the calls to all of them, whatever protocol they speak.

use std::sync::Arc;

use super::attempts::Attempt;
use super::gate::{Gate, Terms};
use super::limiter::Limits;
use crate::config::calls::CallSettings;
use crate::metrics::UpstreamMetrics;

/// One server that is called, as far as whom to ask depends on it.
pub(super) trait Member {
    fn gate(&self) -> &Arc<Gate>;

    /// How many calls it is worth beside the others.
    fn weight(&self) -> f64;

    /// Scheme, host and port.
    fn origin(&self) -> &str;
}

/// What the attempts of a provider's calls go by.
pub(super) struct Pool<M> {
    /// What failures call the provider.
    pub name: String,
    /// At least one.
    pub members: Vec<Arc<M>>,
    pub calls: CallSettings,
    pub metrics: Arc<UpstreamMetrics>,
}

impl<M: Member> Pool<M> {
    /// Holds the upstreams to this provider's limits: its configuration is the one that is in effect. Calls that are
    /// under way, or wait, stay.
    pub fn take_effect(&self) {
        for member in &self.members {
            member.gate().hold_to(terms(&self.calls));
        }
    }

    /// Counts the attempts of a call, and passes on what is told of them.
    pub fn counted<F: FnMut(Attempt) + Send>(&self, mut told: F) -> impl FnMut(Attempt) + Send + use<F, M> {
        let mut meter = self.metrics.call();
        move |attempt| {
            match attempt {
                Attempt::Begun => meter.begun(),
                Attempt::Refused(why) | Attempt::Lost(why) | Attempt::Wasted { why, .. } => meter.failed(why),
                Attempt::Answered(_) | Attempt::AnsweredInPart { .. } => meter.answered(),
            }
            told(attempt);
        }
    }

    /// Scheme, host and port of each member.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.origin())
    }
}

/// What the settings of calls say of a gate.
pub(super) fn terms(calls: &CallSettings) -> Terms {
    let limits = Limits { n_parallel: calls.n_parallel, max_queued: calls.max_queued };
    Terms { limits, window: calls.breaker.unwrap_or_default().window }
}
