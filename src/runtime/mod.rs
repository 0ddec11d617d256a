//! The active configuration: prepared where everything can fail, recorded, then swapped in at once.
//!
//! One lane leads from prepare through commit to swap, so that a lower revision is never published over a
//! higher one. Readers take a snapshot and are never waited for.

mod active;
mod aws;
mod capabilities;
mod elsewhere;
mod history;
mod judge;
mod lane;
#[cfg(feature = "llama")]
mod local;
#[cfg(feature = "llama")]
mod on_demand;
mod probe;
mod remote;
mod remotes;
mod restore;
mod stored;
mod targets;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Mutex;

pub use active::{ActiveConfig, ModelEntry, Route, UnknownModel};
pub use elsewhere::{API_KEY_HEADER, Destination, ENDPOINT_HEADER, RouteError};
pub use history::PastRevision;
pub use lane::{ConfigureError, ConfigureOptions, Configured};
pub use probe::Probe;

pub use crate::providers::{BreakerState, ModelState, UpstreamState};

use crate::config::document::Document;
use crate::config::origin::FieldOrigins;
use crate::config::{Environment, Settings};
use crate::metrics::{Metrics, Moment};
use crate::store::{Store, StoreError};
use stored::Vault;
use targets::Targets;

/// The daemon's active configuration and everything that it holds on to.
pub struct Runtime {
    active: ArcSwapOption<ActiveConfig>,
    /// Held from prepare to swap.
    lane: Mutex<()>,
    store: Store,
    vault: Vault,
    targets: Targets,
    metrics: Arc<Metrics>,
    environment: Environment,
    /// What could not be restored at the start, until someone configures anew.
    not_restored: ArcSwap<Vec<String>>,
}

/// The active configuration as it may be shown: no secret, only fingerprints and references.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub revision: i64,
    /// SHA-256 of the document, in hexadecimal.
    pub content_hash: String,
    pub document: Document,
    /// Where the value of each field came from, as far as that was not the built-in default.
    pub origins: FieldOrigins,
}

impl Runtime {
    /// Opens the store and restores the configuration that was active.
    ///
    /// A configuration that cannot be prepared any more is no error: an older one takes its place, and
    /// [`Runtime::readiness`] tells when there is none.
    ///
    /// # Errors
    ///
    /// When the state directory or its database cannot be used.
    pub async fn start(settings: &Settings, environment: Environment) -> Result<Self, StoreError> {
        let store = Store::open(&settings.store.state_dir).await?;
        let vault = Vault::open(&settings.store.state_dir, &environment);
        let metrics = Arc::new(Metrics::new());
        let targets = Targets::new(settings, Arc::clone(&metrics));
        let runtime = Self {
            active: ArcSwapOption::empty(),
            lane: Mutex::default(),
            store,
            vault,
            targets,
            metrics,
            environment,
            not_restored: ArcSwap::default(),
        };
        runtime.restore(settings).await?;
        Ok(runtime)
    }

    /// The configuration as it is now. A request takes one and uses nothing else.
    pub fn snapshot(&self) -> Option<Arc<ActiveConfig>> {
        self.active.load_full()
    }

    /// What the daemon counts, through every configuration that it has.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The active configuration as it may be shown; `None` when there is none.
    pub fn describe(&self) -> Option<Description> {
        self.snapshot().map(|active| active.description.clone())
    }

    /// Why chat requests cannot be answered; empty when they can.
    pub async fn readiness(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.active.load().is_none() {
            reasons.push("no configuration is active; POST /configure sets one".to_owned());
            reasons.extend(self.not_restored.load().iter().cloned());
        }
        if let Err(error) = self.store.ping().await {
            reasons.push(error.to_string());
        }
        reasons
    }

    /// How the remote providers of configurations that are in use are, in the order of their names. It touches no
    /// network.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.targets.upstreams()
    }

    /// What those who scrape the counters shall know of this moment.
    pub fn moment(&self) -> Moment {
        Moment {
            config_revision: self.snapshot().map(|active| active.revision),
            breakers: self.targets.breakers(),
            engines: self.targets.engines(),
        }
    }

    /// What the operator had configured but could not be restored at the start, and why; empty once
    /// something has been configured since.
    pub fn not_restored(&self) -> Arc<Vec<String>> {
        self.not_restored.load_full()
    }
}

#[cfg(test)]
mod tests;
