//! One revision of the configuration, ready to answer: where each model name leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::algorithms::vote::VoteRules;
use crate::algorithms::{Plan, PlanError, Resources, Wanted};
use crate::completion::Sampling;
use crate::config::capabilities::{CapabilityTable, StructuredOutput};
use crate::config::document::Secrets;
use crate::config::origin::FieldOrigins;
use crate::config::prices::Prices;
use crate::config::provider::ProviderName;
use crate::config::run::RunSettings;
use crate::generator::Generator;
use crate::scorers::{JudgeTarget, Lessons};

use super::Description;
use super::elsewhere::Elsewhere;

/// Everything that a chat request needs of the configuration. Immutable: a swap replaces it whole, and an
/// old one lives until its last request ends.
pub struct ActiveConfig {
    /// The number in the store; 0 for the model that ships, which nobody configured.
    pub revision: i64,
    pub run: RunSettings,
    /// The vote that `run` describes.
    pub rules: Arc<VoteRules>,
    pub prices: Prices,
    /// The judge by the name that the configuration gives it; `None` means the model that answers.
    pub judge_model: Option<String>,
    pub(super) description: Description,
    /// Where the fields of the document came from.
    pub(super) field_origins: FieldOrigins,
    /// The literal secrets that the fingerprints of the description stand for.
    pub(super) secrets: Secrets,
    pub(super) names: Names,
    /// The judge that the configuration names.
    pub(super) judge: Option<JudgeTarget>,
}

/// Which names lead where.
pub(super) struct Names {
    pub provider: ProviderName,
    /// The name that requests use for the active model.
    pub model: String,
    pub active: Target,
    /// Public names of `model_mapping`.
    pub mapped: BTreeMap<String, Target>,
    /// Where names that nobody knows go: to the remote provider, if that is allowed.
    pub any: Option<Arc<dyn Generator>>,
    /// What the models of the active provider can do; `None` for those in this process.
    pub capabilities: Option<CapabilityTable>,
    /// Local models beside the active one.
    pub locals: BTreeMap<String, OpenLocal>,
    pub elsewhere: Elsewhere,
    /// When this revision was made: seconds since 1970-01-01 UTC.
    pub created: i64,
}

/// Gives the local model of a name to a request. A configuration does not hold the models beside its own, so
/// that one is let go with the last request that uses it: naming many must not fill the memory.
pub(super) type OpenLocal = Box<dyn Fn() -> Arc<dyn Generator> + Send + Sync>;

/// A generator, and what it calls the model.
#[derive(Clone)]
pub(super) struct Target {
    pub generator: Arc<dyn Generator>,
    pub model: String,
    /// What requests have learnt of it as their judge.
    pub lessons: Lessons,
}

/// Where a requested model leads.
#[derive(Clone)]
pub struct Route {
    pub generator: Arc<dyn Generator>,
    /// The model's name as the generator knows it.
    pub model: String,
    /// Whether the active algorithm applies. A local model beside the active configuration's own answers
    /// plainly unless the request names an algorithm or a budget.
    pub scaled: bool,
    /// What the model can be held to.
    pub(super) structured_output: StructuredOutput,
    /// What has been learnt of the model as a judge.
    pub(super) lessons: Lessons,
}

/// A model that the clients may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    pub id: String,
    /// The provider, or `itsd` for a model in this process.
    pub owned_by: String,
    /// Seconds since 1970-01-01 UTC.
    pub created: i64,
}

/// No model has the requested name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no model {name}")]
pub struct UnknownModel {
    pub name: String,
    pub available: Vec<String>,
}

impl Names {
    /// What a model of the active provider can be held to.
    fn structured_output(&self, model: &str) -> StructuredOutput {
        let row = self.capabilities.as_ref().map(|capabilities| capabilities.of(model));
        row.map_or(StructuredOutput::Unsupported, |row| row.structured_output())
    }
}

impl Route {
    /// The way to a local model beside the configuration's own.
    pub(super) fn local(generator: Arc<dyn Generator>, model: &str) -> Self {
        let (model, structured_output) = (model.to_owned(), StructuredOutput::Unsupported);
        Self { generator, model, scaled: false, structured_output, lessons: Lessons::default() }
    }
}

impl ActiveConfig {
    /// Where a requested model leads: the active model, a name of `model_mapping`, a local model, and last,
    /// where it is allowed, whatever the remote provider makes of the name.
    ///
    /// # Errors
    ///
    /// When the name leads nowhere, with the names that do.
    pub fn route(&self, requested: &str) -> Result<Route, UnknownModel> {
        let names = &self.names;
        let scaled = |target: &Target| Route {
            generator: Arc::clone(&target.generator),
            model: target.model.clone(),
            scaled: true,
            structured_output: names.structured_output(&target.model),
            lessons: target.lessons.clone(),
        };
        if requested == names.model {
            return Ok(scaled(&names.active));
        }
        if let Some(target) = names.mapped.get(requested) {
            return Ok(scaled(target));
        }
        if let Some(open) = names.locals.get(requested) {
            return Ok(Route::local(open(), requested));
        }
        let pass_through = names.any.as_ref().and_then(|generator| {
            // Under `litellm` a prefix chooses the provider, and this configuration has only one.
            let (provider, model) = names.provider.resolve(requested).ok()?;
            let (active, _) = names.provider.resolve(&names.model).ok()?;
            (provider == active).then(|| Route {
                generator: Arc::clone(generator),
                structured_output: names.structured_output(model),
                model: model.to_owned(),
                scaled: true,
                lessons: Lessons::default(),
            })
        });
        pass_through.ok_or_else(|| UnknownModel {
            name: requested.to_owned(),
            available: self.models().into_iter().map(|model| model.id).collect(),
        })
    }

    /// Who judges the candidates of a route: the judge that the configuration names, else the model that makes them.
    pub fn judge(&self, route: &Route) -> JudgeTarget {
        self.judge.clone().unwrap_or_else(|| JudgeTarget {
            generator: Arc::clone(&route.generator),
            model: route.model.clone(),
            structured_output: route.structured_output,
            lessons: route.lessons.clone(),
        })
    }

    /// Whether a model can be asked for what the configuration's own runs need.
    ///
    /// # Errors
    ///
    /// The field that does not fit.
    pub(super) fn check_run(&self, target: &Target) -> Result<(), PlanError> {
        let Target { generator, model, lessons } = target.clone();
        let structured_output = self.names.structured_output(&model);
        let route = Route { generator, model, scaled: true, structured_output, lessons };
        // A budget of 1 is a plain call unless steps are searched, but requests may ask for more.
        let least = if self.run.algorithm.is_search() { 1 } else { 2 };
        let settings = RunSettings { budget: self.run.budget.max(least), ..self.run.clone() };
        Plan::check_paths(&settings, route.generator.paths(&route.model))?;
        let resources = Resources { rules: Arc::clone(&self.rules), judge: self.judge(&route) };
        let wanted = Wanted { answers: 1, live: false };
        let (plan, _) = Plan::resolve(&settings, resources, wanted, &mut Sampling::default())?;
        plan.signals(route.generator.signals(&route.model)).map(drop)
    }

    /// Every name that a request may use, the active model first.
    pub fn models(&self) -> Vec<ModelEntry> {
        let names = &self.names;
        let own = match names.provider.resolve(&names.model) {
            Ok((ProviderName::Llama, _)) => "itsd",
            Ok((remote, _)) => remote.as_str(),
            Err(_) => names.provider.as_str(),
        };
        let entry = |id: &String, owned_by: &str| ModelEntry {
            id: id.clone(),
            owned_by: owned_by.to_owned(),
            created: names.created,
        };
        let mut models = vec![entry(&names.model, own)];
        models.extend(names.mapped.keys().filter(|name| **name != names.model).map(|name| entry(name, own)));
        models.extend(
            names
                .locals
                .keys()
                .filter(|name| **name != names.model && !names.mapped.contains_key(*name))
                .map(|name| entry(name, "itsd")),
        );
        models
    }
}
