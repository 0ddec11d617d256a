//! What calls to the same place share, whatever configuration they are made under: connections, places among the calls
//! in flight, the budget of retries, and what is known of a server's health and habits.
//!
//! Each is keyed by what it is (an address, with a key, with a model), so that a new configuration neither resets nor
//! doubles it, and is held weakly, so that requests with keys of their own leave nothing behind. Keys are known by
//! their hash alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::breaker::BreakerState;
use super::gate::{Gate, Terms};
use super::habits::Habits;
use super::http_client::Clients;

/// Everything that is shared.
#[derive(Debug, Default)]
pub struct Shared {
    pub(super) clients: Clients,
    gates: Mutex<HashMap<[u8; 32], Weak<Gate>>>,
    habits: Mutex<HashMap<String, Weak<Habits>>>,
}

/// What is going on at one upstream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpstreamState {
    pub provider: String,
    /// Scheme, host and port.
    pub origin: String,
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that wait for a place.
    pub queued: usize,
    /// The models that were called of late, by name.
    pub models: Vec<ModelState>,
}

/// What is known of one model at an upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ModelState {
    pub model: String,
    pub breaker: BreakerState,
}

impl Shared {
    /// The gate of an address and a key, which stands on these terms if it is new. Behind one origin there may be
    /// several servers, which the path tells apart.
    pub(super) fn gate(&self, origin: &str, path: &str, key: Option<&str>, terms: Terms) -> Arc<Gate> {
        let mut hash = Sha256::new();
        hash.update(origin);
        hash.update(path);
        if let Some(key) = key {
            // No address holds such a byte.
            hash.update([0]);
            hash.update(key);
        }
        let id = hash.finalize().into();
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(&id).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::new(Gate::new(origin, terms));
        gates.retain(|_, gate| gate.strong_count() > 0);
        gates.insert(id, Arc::downgrade(&gate));
        gate
    }

    /// What has been learnt of the models at an origin.
    pub(super) fn habits(&self, origin: &str) -> Arc<Habits> {
        let mut all = self.habits.lock();
        if let Some(habits) = all.get(origin).and_then(Weak::upgrade) {
            return habits;
        }
        let habits = Arc::<Habits>::default();
        all.retain(|_, habits| habits.strong_count() > 0);
        all.insert(origin.to_owned(), Arc::downgrade(&habits));
        habits
    }

    /// How the upstreams of the configuration are; those that requests bring themselves are not told of.
    pub fn states(&self) -> Vec<UpstreamState> {
        let gates: Vec<Arc<Gate>> = self.gates.lock().values().filter_map(Weak::upgrade).collect();
        let mut states: Vec<UpstreamState> = gates.iter().filter_map(|gate| gate.state()).collect();
        states.sort_by(|left, right| (&left.provider, &left.origin).cmp(&(&right.provider, &right.origin)));
        states
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::providers::limiter::Limits;

    const TERMS: Terms = Terms { limits: Limits { n_parallel: 4, max_queued: 4 }, window: Duration::from_secs(10) };

    #[test]
    fn one_gate_stands_before_an_origin_for_each_key_and_is_forgotten_with_its_users() {
        let shared = Shared::default();
        let gate = |origin: &str, key: Option<&str>| shared.gate(origin, "/v1", key, TERMS);
        let held = gate("http://a", Some("k"));
        assert!(Arc::ptr_eq(&held, &gate("http://a", Some("k"))));
        for (origin, key) in [("http://a", None), ("http://a", Some("l")), ("http://b", Some("k")), ("http://ak", None)]
        {
            assert!(!Arc::ptr_eq(&held, &gate(origin, key)), "{origin} {key:?}");
        }
        assert!(!Arc::ptr_eq(&held, &shared.gate("http://a", "/b/v1", Some("k"), TERMS)), "another server behind it");
        for number in 0..100 {
            gate("http://a", Some(&number.to_string()));
            shared.habits(&format!("http://{number}"));
        }
        // The one that is held, and the one that was made last.
        assert_eq!((shared.gates.lock().len(), shared.habits.lock().len()), (2, 1));
    }

    #[test]
    fn only_what_a_configuration_names_is_told_of_and_by_its_name() {
        let shared = Shared::default();
        let gate = shared.gate("http://a", "/v1", Some("k"), TERMS);
        assert_eq!(shared.states(), []);
        shared.gate("http://a", "/v1", Some("k"), TERMS).list("vllm");
        let models = Vec::new();
        let state = |origin: &str| UpstreamState {
            provider: "vllm".to_owned(),
            origin: origin.to_owned(),
            in_flight: 0,
            queued: 0,
            models: models.clone(),
        };
        assert_eq!(shared.states(), [state("http://a")]);
        drop(gate);
        assert_eq!(shared.states(), []);
    }
}
