//! The one lane from a document to the active configuration: prepare, commit, swap.

use std::sync::Arc;

use crate::algorithms::Plan;
use crate::algorithms::vote::VoteRules;
use crate::config::document::{Document, content_hash, put_back_secrets, take_secrets};
use crate::config::{ActiveSettings, SettingsError};
use crate::store::{NewRevision, Origin, StoreError};

use super::active::ActiveConfig;
use super::{Description, Runtime};

/// How a configuration is to be set.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigureOptions {
    /// Build everything, then discard it.
    pub validate_only: bool,
    /// The revision that must be the active one.
    pub if_match: Option<i64>,
}

/// A configuration that was set, or only validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The active revision.
    pub revision: i64,
    /// For the client: which model and algorithm.
    pub message: String,
    pub warnings: Vec<String>,
}

/// Why a configuration was not set. The active one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another revision than the expected one is active.
    #[error("the active revision is {active}, not {expected}; read it, merge, and try again")]
    Conflict { expected: i64, active: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A configuration that lacks nothing but its number.
pub(super) struct Prepared {
    active: ActiveConfig,
    pub warnings: Vec<String>,
}

impl Prepared {
    /// The prepared configuration under its number, made at `created` (seconds since 1970-01-01 UTC).
    pub fn numbered(mut self, revision: i64, created: i64) -> ActiveConfig {
        self.active.revision = revision;
        self.active.description.revision = revision;
        self.active.names.created = created;
        self.active
    }
}

impl Runtime {
    /// Makes a document the active configuration. Nothing changes unless all of it was built and recorded.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`]: a field that cannot be, a stale `if_match`, a store that failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lane running to its end: what was committed is also published.
    pub async fn configure(
        self: &Arc<Self>,
        document: Document,
        options: ConfigureOptions,
    ) -> Result<Configured, ConfigureError> {
        let runtime = Arc::clone(self);
        let lane = tokio::spawn(async move { runtime.configure_in_lane(document, options).await });
        match lane.await {
            Ok(result) => result,
            // Nobody aborts the task, so that only a panic can have ended it.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn configure_in_lane(
        &self,
        mut document: Document,
        options: ConfigureOptions,
    ) -> Result<Configured, ConfigureError> {
        let _lane = self.lane.lock().await;
        let active = self.snapshot();
        let active_revision = active.as_ref().map_or(0, |active| active.revision);
        if let Some(expected) = options.if_match.filter(|expected| *expected != active_revision) {
            return Err(ConfigureError::Conflict { expected, active: active_revision });
        }
        put_back_secrets(&mut document, &active.map(|active| active.secrets.clone()).unwrap_or_default())?;
        let prepared = self.prepare(document).await?;
        let message = format!(
            "Initialized {} with {} algorithm",
            prepared.active.names.model,
            prepared.active.run.algorithm.as_str()
        );
        let mut warnings = prepared.warnings.clone();
        if options.validate_only {
            return Ok(Configured { revision: active_revision, message, warnings });
        }
        let (revision, warning) = self.commit(prepared, Origin::Request).await?;
        warnings.extend(warning);
        Ok(Configured { revision, message, warnings })
    }

    /// Builds everything that a document needs and that can fail. Makes no network call.
    pub(super) async fn prepare(&self, mut document: Document) -> Result<Prepared, SettingsError> {
        let settings = ActiveSettings::parse(&document)?;
        let mut warnings = Vec::new();
        Plan::check(&settings.run).map_err(|error| SettingsError::invalid(error.param, error.message))?;
        let names = self.targets.prepare(&settings, &self.environment, &mut warnings).await?;
        let judge = self.targets.prepare_judge(&settings, &self.environment, &mut warnings).await?;
        let rules =
            VoteRules::compile(&settings.run).map_err(|error| SettingsError::invalid(error.param, error.message))?;
        let secrets = take_secrets(&mut document);
        let description = Description { revision: 0, content_hash: content_hash(&document), document };
        let active = ActiveConfig {
            revision: 0,
            run: settings.run,
            rules: Arc::new(rules),
            prices: settings.prices,
            judge_model: settings.judge.and_then(|judge| judge.model),
            description,
            secrets,
            names,
            judge,
        };
        Ok(Prepared { active, warnings })
    }

    /// Records a prepared configuration and, in the same breath, makes it the active one. For the holder of
    /// the lane alone.
    pub(super) async fn commit(&self, prepared: Prepared, origin: Origin) -> Result<(i64, Option<String>), StoreError> {
        let description = &prepared.active.description;
        let (document, warning) = self.vault.close(&description.document, &prepared.active.secrets);
        let new = NewRevision { content_hash: description.content_hash.clone(), document, origin };
        let committed = self.store.commit(new).await?;
        self.not_restored.store(Arc::default());
        self.publish(prepared.numbered(committed.number, committed.created_at));
        Ok((committed.number, warning))
    }

    /// Swaps a configuration in. Cannot fail; the old one lives until its last request ends.
    pub(super) fn publish(&self, active: ActiveConfig) {
        tracing::info!(
            revision = active.revision,
            model = %active.names.model,
            provider = active.names.provider.as_str(),
            algorithm = active.run.algorithm.as_str(),
            "configuration is active"
        );
        self.active.store(Some(Arc::new(active)));
    }
}
