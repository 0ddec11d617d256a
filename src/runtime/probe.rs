//! Asking the endpoint of a configuration what it can do, before the configuration is prepared: what it says goes into
//! the document, where it is seen and outlives a restart. It is said of the model that was asked for, and of no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::capabilities::MODELS;
use crate::config::document::Document;
use crate::config::extra_args::CAPABILITIES;
use crate::config::provider::ProviderName;
use crate::config::{ActiveSettings, SettingsError, origin};
use crate::failure::{Failure, FailureKind};
use crate::metrics::UpstreamMetrics;
use crate::providers::{Findings, Provider, Shared};

use super::Runtime;
use super::lane::{Change, ConfigureError, ConfigureOptions, Draft};
use super::remote::provider_spec;
use super::targets::refused;

const EXTRA_ARGS: &str = "extra_args";

/// What an endpoint has said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Calls that were made.
    pub calls: usize,
    /// By the columns of the table, as `extra_args.capabilities.models` says it of the model.
    pub found: Map<String, Value>,
    /// What the table says in their place, where that is something else.
    pub known: Map<String, Value>,
    /// Columns that the client has named itself, which stay as they are.
    pub kept: Vec<String>,
    /// What could not be found out.
    pub notes: Vec<String>,
}

impl Probe {
    pub(super) fn warnings(&self) -> Vec<String> {
        let differs = |(column, known): (&String, &Value)| {
            format!("the endpoint was found to have `{column}` {}, where {known} was known", self.found[column])
        };
        let kept = self.kept.iter().map(|column| {
            format!(
                "`{column}` of `extra_args.capabilities` stays as it was given; the endpoint was found to have {}",
                self.found[column]
            )
        });
        let notes = self.notes.iter().map(|note| format!("the probe: {note}"));
        self.known.iter().map(differs).chain(kept).chain(notes).collect()
    }
}

/// What an endpoint has said for a change that is still to be made.
pub(super) struct Asked {
    pub probe: Probe,
    /// The name that the provider knows the model by.
    model: String,
    /// The revision that the change was drafted on, where it would have made something else of another one.
    basis: Option<i64>,
    /// Columns that the document has a cell of for all of its models.
    of_all: BTreeSet<String>,
    /// Columns that the client has named for this model.
    of_model: BTreeSet<String>,
}

impl Asked {
    /// # Errors
    ///
    /// When the change was drafted on another revision than the active one.
    pub fn check_basis(&self, active: i64) -> Result<(), ConfigureError> {
        match self.basis {
            Some(basis) if basis != active => Err(ConfigureError::Overtaken { active }),
            _ => Ok(()),
        }
    }

    /// Fills in what the endpoint has said of the model. What the client has said stays, and what an earlier probe has
    /// found makes room for it.
    pub fn fill_in(&self, draft: &mut Draft) {
        if !draft.field_origins.contains_key(EXTRA_ARGS) {
            draft.field_origins.insert(EXTRA_ARGS.to_owned(), origin::REQUEST.to_owned());
        }
        let place = [EXTRA_ARGS, CAPABILITIES, MODELS, &self.model];
        let cells = place.into_iter().fold(&mut draft.document, object);
        for (column, value) in self.probe.found.iter().filter(|(column, _)| !self.of_model.contains(*column)) {
            match self.of_all.contains(column) {
                true => drop(cells.shift_remove(column)),
                false => drop(cells.insert(column.clone(), value.clone())),
            }
        }
    }
}

impl Runtime {
    /// Asks the endpoint that a change leads to, once it is certain that the change could be made. Outside the lane,
    /// where nobody waits for it; `None` where there is nothing to change.
    pub(super) async fn ask(
        &self,
        change: &Change,
        options: ConfigureOptions,
    ) -> Result<Option<Asked>, ConfigureError> {
        let active = self.snapshot();
        let revision = options.check(active.as_deref())?;
        let Some(draft) = self.draft(change.clone(), active.as_deref()).await? else { return Ok(None) };
        let settings = ActiveSettings::parse(&draft.document)?;
        let own = settings.model_mapping.get(&settings.model).unwrap_or(&settings.model);
        let (provider, model) = settings.provider.resolve(own)?;
        if provider == ProviderName::Llama {
            let message = "`probe` has no meaning for the provider `llama`, which runs in this process; leave it out";
            return Err(SettingsError::invalid("probe", message).into());
        }
        let of_all = capabilities(&draft.document).map(columns).unwrap_or_default();
        let of_model = change.document().and_then(capabilities).and_then(|said| said.get(MODELS)?.get(model));
        let of_model = of_model.and_then(Value::as_object).map(columns).unwrap_or_default();
        // What is refused is not paid for.
        self.prepare_change(draft, change.rolled_back()).await?;

        let (spec, _) = provider_spec(&settings, provider, &self.environment, self.targets.outbound())?;
        let known = spec.capabilities.clone().uncorrected().of(model);
        let client =
            Provider::metered(spec, &Shared::default(), Arc::new(UpstreamMetrics::unseen())).map_err(refused)?;
        let Findings { cells, notes, calls } = client
            .probe(model)
            .await
            .map_err(|failure| ConfigureError::Probe { param: at_fault(provider, &failure), failure })?;
        let known = known.cells().into_iter();
        let probe = Probe {
            calls,
            known: known
                .filter(|(column, value)| cells.get(*column).is_some_and(|found| found != value && *value != "unknown"))
                .map(|(column, value)| (column.to_owned(), value))
                .collect(),
            kept: cells
                .keys()
                .filter(|column| of_all.contains(*column) || of_model.contains(*column))
                .cloned()
                .collect(),
            found: cells,
            notes,
        };
        // A whole document is the same on whatever it is put in place of.
        let basis = (!matches!(change, Change::Replace(_))).then_some(revision);
        Ok(Some(Asked { probe, model: model.to_owned(), basis, of_all, of_model }))
    }
}

/// What a document, or a patch, says in place of the table.
fn capabilities(document: &Document) -> Option<&Document> {
    document.get(EXTRA_ARGS)?.get(CAPABILITIES)?.as_object()
}

/// The columns of which something is said.
fn columns(cells: &Document) -> BTreeSet<String> {
    cells.iter().filter(|(name, value)| *name != MODELS && !value.is_null()).map(|(name, _)| name.clone()).collect()
}

/// The object of a member, made where there is none.
fn object<'a>(document: &'a mut Document, name: &str) -> &'a mut Document {
    let member = document.entry(name.to_owned()).or_insert(Value::Null);
    if !member.is_object() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut().expect("it was just made one")
}

/// The field to change where an endpoint cannot be asked.
fn at_fault(provider: ProviderName, failure: &Failure) -> &'static str {
    match failure.kind {
        // Its credentials stand in several fields there.
        FailureKind::Auth if provider == ProviderName::Bedrock => "extra_args",
        FailureKind::Auth => "api_key",
        // A path that is not there, unless the server says that it is the model.
        FailureKind::NotFound if !failure.message.to_lowercase().contains("model") => "endpoint",
        FailureKind::InvalidRequest | FailureKind::NotSupported | FailureKind::NotFound => "model",
        _ => "endpoint",
    }
}
