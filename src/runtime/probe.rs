//! Asking the endpoint of a configuration what it can do, before the configuration is prepared: what it says goes into
//! the document, where it is seen and outlives a restart.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::config::document::Document;
use crate::config::extra_args::CAPABILITIES;
use crate::config::provider::ProviderName;
use crate::config::{ActiveSettings, SettingsError, origin};
use crate::failure::{Failure, FailureKind};
use crate::providers::Shared;
use crate::providers::openai::{Findings, Provider};

use super::Runtime;
use super::lane::{Change, ConfigureError, Draft};
use super::remote::provider_spec;
use super::targets::refused;

const EXTRA_ARGS: &str = "extra_args";

/// What an endpoint has said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Calls that were made.
    pub calls: usize,
    /// By the columns of the table, as `extra_args.capabilities` says it.
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
                "`extra_args.capabilities.{column}` stays as it was given; the endpoint was found to have {}",
                self.found[column]
            )
        });
        let notes = self.notes.iter().map(|note| format!("the probe: {note}"));
        self.known.iter().map(differs).chain(kept).chain(notes).collect()
    }
}

/// The columns that the client of a change has filled in itself. Those of a configuration that it patches may be what an
/// earlier probe has found.
pub(super) fn named_capabilities(change: &Change) -> BTreeSet<String> {
    let (Change::Replace(document) | Change::Patch(document)) = change else { return BTreeSet::new() };
    let named = document.get(EXTRA_ARGS).and_then(|extra_args| extra_args.get(CAPABILITIES)?.as_object());
    named.into_iter().flatten().filter(|(_, value)| !value.is_null()).map(|(column, _)| column.clone()).collect()
}

impl Runtime {
    /// Asks the endpoint of a draft, and fills in what it says but for the columns in `named`.
    pub(super) async fn probe(&self, draft: &mut Draft, named: &BTreeSet<String>) -> Result<Probe, ConfigureError> {
        let settings = ActiveSettings::parse(&draft.document)?;
        let own = settings.model_mapping.get(&settings.model).unwrap_or(&settings.model);
        let (provider, model) = settings.provider.resolve(own)?;
        if provider == ProviderName::Llama {
            let message = "`probe` has no meaning for the provider `llama`, which runs in this process; leave it out";
            return Err(SettingsError::invalid("probe", message).into());
        }
        let (spec, _) = provider_spec(&settings, provider, &self.environment, self.targets.outbound())?;
        let known = spec.capabilities.uncorrected().of(model);
        let client = Provider::new(spec, &Shared::default()).map_err(refused)?;
        let Findings { cells, notes, calls } = client
            .probe(model)
            .await
            .map_err(|failure| ConfigureError::Probe { param: at_fault(&failure), failure })?;
        let known = known.cells().into_iter();
        let probe = Probe {
            calls,
            known: known
                .filter(|(column, value)| cells.get(*column).is_some_and(|found| found != value && *value != "unknown"))
                .map(|(column, value)| (column.to_owned(), value))
                .collect(),
            kept: cells.keys().filter(|column| named.contains(*column)).cloned().collect(),
            found: cells,
            notes,
        };
        if !draft.field_origins.contains_key(EXTRA_ARGS) {
            draft.field_origins.insert(EXTRA_ARGS.to_owned(), origin::REQUEST.to_owned());
        }
        let found = probe.found.iter().filter(|(column, _)| !named.contains(*column));
        object(object(&mut draft.document, EXTRA_ARGS), CAPABILITIES)
            .extend(found.map(|(column, value)| (column.clone(), value.clone())));
        Ok(probe)
    }
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
fn at_fault(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::Auth => "api_key",
        // A path that is not there, unless the server says that it is the model.
        FailureKind::NotFound if !failure.message.to_lowercase().contains("model") => "endpoint",
        FailureKind::InvalidRequest | FailureKind::NotSupported | FailureKind::NotFound => "model",
        _ => "endpoint",
    }
}
