//! The registry of clients: one for everything that is sent to the same place with the same things.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::config::provider::ProviderName;
use crate::generator::{self, Generator};
use crate::metrics::Metrics;
use crate::providers::{BreakerState, ModelState, Provider, ProviderError, ProviderSpec, Shared, UpstreamState};

use super::remote::identity;

/// The clients that are in use, held weakly: a client is let go with the last configuration or request that uses
/// it, so that requests with keys of their own leave nothing behind. Those that differ in a setting are different
/// clients, but what they share upstream (connections, places, budgets, breakers) is one.
pub struct Remotes {
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<[u8; 32], Weak<dyn Generator>>>,
    shared: Shared,
}

impl Remotes {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, known: Mutex::default(), shared: Shared::default() }
    }

    /// The client of this specification, made if there is none. Makes no network call.
    ///
    /// # Errors
    ///
    /// When the address, the key or a header cannot be used.
    pub fn client(&self, spec: ProviderSpec) -> Result<Arc<dyn Generator>, ProviderError> {
        let key = identity(&spec);
        if let Some(client) = self.known.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let metrics = self.metrics.upstream(label(&spec.name));
        let client = generator::remote(Provider::metered(spec, &self.shared, metrics)?);
        let mut known = self.known.lock();
        known.retain(|_, client| client.strong_count() > 0);
        known.insert(key, Arc::downgrade(&client));
        Ok(client)
    }

    /// How the upstreams of configurations that are in use are.
    pub fn states(&self) -> Vec<UpstreamState> {
        self.shared.states()
    }

    /// How many models of a provider are in which state of their circuit breakers.
    pub fn breakers(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut breakers = BTreeMap::new();
        for upstream in self.states() {
            let provider = label(&upstream.provider);
            for state in BreakerState::ALL {
                let is_in_it = |model: &&ModelState| model.breaker == state;
                let models = upstream.models.iter().filter(is_in_it).count() as u64;
                *breakers.entry((provider, state.as_str())).or_default() += models;
            }
        }
        breakers
    }
}

/// What the counters call a provider: its name, and one word for all endpoints that requests bring themselves.
fn label(name: &str) -> &'static str {
    ProviderName::WORDS.iter().copied().find(|known| *known == name).unwrap_or("request-endpoint")
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::config::calls::CallSettings;
    use crate::config::capabilities::CapabilityTable;
    use crate::providers::{Brought, Dialect};

    fn with_key(key: &str) -> ProviderSpec {
        ProviderSpec {
            name: "test".to_owned(),
            members: vec![url::Url::parse("http://127.0.0.1:9/v1").unwrap().into()],
            dialect: Dialect::default(),
            api_key: Some(SecretString::from(key)),
            headers: Vec::new(),
            body: serde_json::Map::new(),
            capabilities: CapabilityTable::new(ProviderName::OpenAiCompatible),
            calls: CallSettings::default(),
            brought: Brought::Nothing,
        }
    }

    #[test]
    fn one_client_serves_all_who_call_alike_and_is_forgotten_with_them() {
        let remotes = Remotes::new(Arc::default());
        let held = remotes.client(with_key("a")).unwrap();
        assert!(Arc::ptr_eq(&held, &remotes.client(with_key("a")).unwrap()));
        for number in 0..100 {
            assert!(!Arc::ptr_eq(&held, &remotes.client(with_key(&number.to_string())).unwrap()));
        }
        // The one that is held, and the one that was made last.
        assert_eq!(remotes.known.lock().len(), 2);
    }

    #[test]
    fn the_counters_know_providers_by_their_names_and_nothing_that_a_request_brings() {
        assert_eq!(label("openrouter"), "openrouter");
        assert_eq!(label("the request's endpoint"), "request-endpoint");
        assert_eq!(label("https://example.org/v1"), "request-endpoint");
    }
}
