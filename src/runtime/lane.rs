//! The one lane from a document to the active configuration: prepare, commit, swap.

use std::sync::Arc;

use crate::algorithms::vote::VoteRules;
use crate::config::document::{self, Document, content_hash, put_back_secrets, take_secrets};
use crate::config::origin::{self, FieldOrigins};
use crate::config::{ActiveSettings, SettingsError};
use crate::failure::Failure;
use crate::store::{NewRevision, Origin, StoreError};

use super::active::ActiveConfig;
use super::probe::{Asked, Probe};
use super::remote::usual_variables;
use super::{Description, Runtime};

/// How a configuration is to be set.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigureOptions {
    /// Build everything, then discard it.
    pub validate_only: bool,
    /// The revision that must be the active one.
    pub if_match: Option<i64>,
    /// Ask the endpoint what it can do, once the document could be prepared, and put what it says into it.
    pub probe: bool,
}

/// A configuration that was set, or only validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// The active revision.
    pub revision: i64,
    /// For the client: which model and algorithm.
    pub message: String,
    pub warnings: Vec<String>,
    /// What the endpoint has said of itself, where it was asked.
    pub probe: Option<Probe>,
}

/// Why a configuration was not set. The active one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another revision than the expected one is active.
    #[error("the active revision is {active}, not {expected}; read it, merge, and try again")]
    Conflict { expected: i64, active: i64 },
    /// What a change was drafted on is not active any more, now that the endpoint has answered.
    #[error("revision {active} became active while the endpoint was asked; read it, and try again")]
    Overtaken { active: i64 },
    /// A patch needs something to be applied to.
    #[error("no configuration is active that could be patched; POST /configure sets one")]
    NotConfigured,
    /// There is no revision of this number to go back to.
    #[error("there is no revision {number}; {there_is}")]
    UnknownRevision { number: i64, there_is: String },
    /// A past revision that cannot be made the active one again.
    #[error("revision {number} cannot be active again: {why}; the active configuration is as it was")]
    NotPreparable { number: i64, why: String },
    /// The endpoint could not be asked what it can do.
    #[error("the endpoint could not be asked what it can do: {failure}")]
    Probe { param: &'static str, failure: Failure },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigureOptions {
    /// The number of the active revision, 0 for none.
    ///
    /// # Errors
    ///
    /// When it is not the expected one.
    pub(super) fn check(&self, active: Option<&ActiveConfig>) -> Result<i64, ConfigureError> {
        let active = active.map_or(0, |active| active.revision);
        match self.if_match {
            Some(expected) if expected != active => Err(ConfigureError::Conflict { expected, active }),
            _ => Ok(active),
        }
    }
}

/// What shall become the active configuration.
#[derive(Clone)]
pub(super) enum Change {
    /// A document in place of the active one.
    Replace(Document),
    /// A JSON merge patch on whatever is active when its turn comes.
    Patch(Document),
    /// The content of a past revision.
    Rollback(i64),
    /// The file's `[active]`, unless it is what was last applied of it.
    File(Document, FieldOrigins),
}

impl Change {
    /// What the client has sent.
    pub fn document(&self) -> Option<&Document> {
        match self {
            Self::Replace(document) | Self::Patch(document) | Self::File(document, _) => Some(document),
            Self::Rollback(_) => None,
        }
    }

    pub fn rolled_back(&self) -> Option<i64> {
        if let Self::Rollback(number) = self { Some(*number) } else { None }
    }
}

/// A document on its way to be prepared, its secrets in it.
pub(super) struct Draft {
    pub document: Document,
    pub origin: Origin,
    pub field_origins: FieldOrigins,
}

/// A configuration that lacks nothing but its number.
pub(super) struct Prepared {
    active: ActiveConfig,
    origin: Origin,
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
    /// Dropping the future leaves the lane running to its end: what was committed is also published. An endpoint that is
    /// still being asked is asked no further, and nothing changes.
    pub async fn configure(
        self: &Arc<Self>,
        document: Document,
        options: ConfigureOptions,
    ) -> Result<Configured, ConfigureError> {
        self.change(Change::Replace(document), options).await.map(|configured| configured.expect("a request's change"))
    }

    /// Applies a JSON merge patch (RFC 7396) to the configuration that is active when the patch's turn comes, so
    /// that of two patches none is lost. Secrets that it does not mention keep their value.
    ///
    /// # Errors
    ///
    /// As [`Runtime::configure`], and when nothing is active.
    ///
    /// # Cancel safety
    ///
    /// As [`Runtime::configure`].
    pub async fn patch(
        self: &Arc<Self>,
        patch: Document,
        options: ConfigureOptions,
    ) -> Result<Configured, ConfigureError> {
        self.change(Change::Patch(patch), options).await.map(|configured| configured.expect("a request's change"))
    }

    /// Makes the content of a past revision, its secrets included, a new one.
    ///
    /// # Errors
    ///
    /// As [`Runtime::configure`], and when there is no such revision or it cannot be prepared any more.
    ///
    /// # Cancel safety
    ///
    /// As [`Runtime::configure`].
    pub async fn roll_back(
        self: &Arc<Self>,
        number: i64,
        options: ConfigureOptions,
    ) -> Result<Configured, ConfigureError> {
        self.change(Change::Rollback(number), options).await.map(|configured| configured.expect("a request's change"))
    }

    /// Makes the file's `[active]` a new revision; `None` when it is what was last applied of it.
    ///
    /// # Errors
    ///
    /// As [`Runtime::configure`]. [`Runtime::not_restored`] tells it from then on.
    ///
    /// # Cancel safety
    ///
    /// As [`Runtime::configure`].
    pub async fn apply_file(
        self: &Arc<Self>,
        document: Document,
        origins: FieldOrigins,
    ) -> Result<Option<Configured>, ConfigureError> {
        let applied = self.change(Change::File(document, origins), ConfigureOptions::default()).await;
        if let Err(error) = &applied {
            self.not_restored.store(Arc::new(vec![format!("the file's `[active]` was not applied: {error}")]));
        }
        applied
    }

    async fn change(
        self: &Arc<Self>,
        change: Change,
        options: ConfigureOptions,
    ) -> Result<Option<Configured>, ConfigureError> {
        let asked = match options.probe {
            true => self.ask(&change, options).await?,
            false => None,
        };
        let runtime = Arc::clone(self);
        let lane = tokio::spawn(async move { runtime.change_in_lane(change, options, asked).await });
        match lane.await {
            Ok(result) => result,
            // Nobody aborts the task, so that only a panic can have ended it.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// `None` when the file says what it said before. What the endpoint has said goes into the document.
    pub(super) async fn change_in_lane(
        &self,
        change: Change,
        options: ConfigureOptions,
        asked: Option<Asked>,
    ) -> Result<Option<Configured>, ConfigureError> {
        let _lane = self.lane.lock().await;
        let active = self.snapshot();
        let active_revision = options.check(active.as_deref())?;
        if let Some(asked) = &asked {
            asked.check_basis(active_revision)?;
        }
        let rolled_back = change.rolled_back();
        let Some(mut draft) = self.draft(change, active.as_deref()).await? else { return Ok(None) };
        if let Some(asked) = &asked {
            asked.fill_in(&mut draft);
        }
        let prepared = self.prepare_change(draft, rolled_back).await?;
        let probe = asked.map(|asked| asked.probe);
        let (model, algorithm) = (&prepared.active.names.model, prepared.active.run.algorithm.as_str());
        let message = match options.validate_only {
            true => format!("{model} with {algorithm} algorithm is valid; nothing was changed"),
            false => format!("Initialized {model} with {algorithm} algorithm"),
        };
        let mut warnings = probe.as_ref().map(Probe::warnings).unwrap_or_default();
        warnings.extend(prepared.warnings.iter().cloned());
        if options.validate_only {
            return Ok(Some(Configured { revision: active_revision, message, warnings, probe }));
        }
        let (revision, warning) = self.commit(prepared).await?;
        warnings.extend(warning);
        Ok(Some(Configured { revision, message, warnings, probe }))
    }

    /// Prepares what a change has made, which may be a past revision.
    pub(super) async fn prepare_change(
        &self,
        draft: Draft,
        rolled_back: Option<i64>,
    ) -> Result<Prepared, ConfigureError> {
        self.prepare(draft).await.map_err(|error| match rolled_back {
            Some(number) => ConfigureError::NotPreparable { number, why: error.message },
            None => error.into(),
        })
    }

    /// What a change makes of the active configuration, every secret in its place.
    pub(super) async fn draft(
        &self,
        change: Change,
        active: Option<&ActiveConfig>,
    ) -> Result<Option<Draft>, ConfigureError> {
        let draft = match change {
            Change::Replace(mut document) => {
                let known = active.map(|active| active.secrets.clone()).unwrap_or_default();
                put_back_secrets(&mut document, &known)?;
                let field_origins = origin::all(&document, origin::REQUEST);
                Draft { document, origin: Origin::Request, field_origins }
            }
            Change::Patch(patch) => {
                let active = active.ok_or(ConfigureError::NotConfigured)?;
                let mut document = active.description.document.clone();
                document::patch(&mut document, &patch);
                put_back_secrets(&mut document, &active.secrets)?;
                let field_origins = origin::patched(active.field_origins.clone(), &patch, &document);
                Draft { document, origin: Origin::Patch, field_origins }
            }
            Change::Rollback(number) => self.past_draft(number, active).await?,
            Change::File(document, field_origins) => {
                let mut shown = document.clone();
                take_secrets(&mut shown);
                if self.store.last_file_hash().await?.as_deref() == Some(&content_hash(&shown)) {
                    return Ok(None);
                }
                Draft { document, origin: Origin::File, field_origins }
            }
        };
        Ok(Some(draft))
    }

    /// Builds everything that a document needs and that can fail. Makes no network call.
    pub(super) async fn prepare(&self, draft: Draft) -> Result<Prepared, SettingsError> {
        let Draft { mut document, origin, field_origins } = draft;
        let settings = ActiveSettings::parse(&document)?;
        let mut warnings = settings.warnings_of_names();
        warnings.extend_from_slice(&settings.left_out);
        let names = self.targets.prepare(&settings, &self.environment, &mut warnings).await?;
        let judge = self.targets.prepare_judge(&settings, &self.environment, &mut warnings).await?;
        let rules =
            VoteRules::compile(&settings.run).map_err(|error| SettingsError::invalid(error.param, error.message))?;
        let secrets = take_secrets(&mut document);
        let mut origins = field_origins.clone();
        for (field, variable) in usual_variables(&settings, &self.environment) {
            origins.insert(field.to_owned(), origin::environment(variable));
        }
        let description = Description { revision: 0, content_hash: content_hash(&document), document, origins };
        let active = ActiveConfig {
            revision: 0,
            run: settings.run,
            rules: Arc::new(rules),
            prices: settings.prices,
            judge_model: settings.judge.and_then(|judge| judge.model),
            description,
            field_origins,
            secrets,
            names,
            judge,
        };
        active.check_run(&active.names.active).map_err(|error| SettingsError::invalid(error.param, error.message))?;
        warnings.extend(active.check_capabilities(settings.calls.use_n)?);
        Ok(Prepared { active, origin, warnings })
    }

    /// Records a prepared configuration and, in the same breath, makes it the active one. For the holder of
    /// the lane alone.
    pub(super) async fn commit(&self, prepared: Prepared) -> Result<(i64, Option<String>), StoreError> {
        let description = &prepared.active.description;
        let (document, warning) = self.vault.close(&description.document, &prepared.active.secrets);
        let new = NewRevision {
            content_hash: description.content_hash.clone(),
            document,
            origin: prepared.origin,
            field_origins: serde_json::to_string(&prepared.active.field_origins).expect("strings serialise"),
        };
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
        // What it shares with the old one, such as places among the calls in flight, goes by its limits from now on.
        active.names.active.generator.take_effect();
        if let Some(judge) = &active.judge {
            judge.generator.take_effect();
        }
        self.active.store(Some(Arc::new(active)));
    }
}
