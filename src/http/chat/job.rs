//! A chat request that is ready to run: routed, planned and checked against what its target can do.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::algorithms::{self, Named, Observer, Outcome, Plan, Resources, RunError, Wanted};
use crate::completion::Prompt;
use crate::config::run::{AlgorithmName, RunSettings};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Generator, Phase, Run, Spent};
use crate::http::error::ApiError;
use crate::http::request_log::{Asked, RequestRecord};
use crate::http::spending;
use crate::runtime::{ActiveConfig, Destination};

use super::answers;
use super::ending::Ending;
use super::precedence::{self, PathChoice};
use super::request::{ChatRequest, StreamOptions};
use super::response::{Finished, warnings_header};
use super::running::Interruption;
use super::tts::Tts;

/// Everything that one chat request needs; it reads nothing else of the daemon's state.
pub struct Job {
    pub identity: Identity,
    pub stream: bool,
    pub stream_options: StreamOptions,
    generator: Arc<dyn Generator>,
    plan: Plan,
    prompt: Arc<Prompt>,
    run: Arc<Run>,
    /// What was spent when the run came to its end. Calls that were cancelled may still settle afterwards, and whatever
    /// is told of it is to agree.
    spent: OnceLock<Spent>,
    warnings: Vec<String>,
    with_metadata: bool,
    /// The strategy in the client's words, where a `tts_*` field or the path chose the run.
    strategy: Option<String>,
    record: Arc<RequestRecord>,
}

/// What every chunk and header of one response says alike.
#[derive(Debug, Clone)]
pub struct Identity {
    pub completion_id: String,
    /// Unix time in seconds.
    pub created: i64,
    /// The model as the client named it.
    pub model: String,
    pub algorithm: &'static str,
    pub revision: i64,
}

impl Job {
    /// Routes and plans a request under one revision of the configuration.
    ///
    /// # Errors
    ///
    /// An unknown model, a setting out of range, or a parameter that the target cannot honour.
    pub fn prepare(
        active: &ActiveConfig,
        mut request: ChatRequest,
        path: &PathChoice,
        destination: Destination,
        record: Arc<RequestRecord>,
    ) -> Result<Self, ApiError> {
        let client_model = request.prompt.model.clone();
        let (route, wait_rounds) = precedence::route(active, &client_model, destination)?;
        path.put_over(&mut request.overrides)?;
        let is_put = |field: &str| request.tts.as_ref().is_some_and(|tts| tts.has_put(field));
        let named_by_client = Named::of(|field| request.overrides.contains_key(field) && !is_put(field));
        if let Some(rounds) = wait_rounds {
            request.warnings.extend(precedence::put_suffix_under(rounds, &mut request.overrides)?);
        }
        let names_budget = request.overrides.contains_key("budget");
        let names_continuations = request.overrides.contains_key("candidates_per_step");
        if let Some(tts) = &mut request.tts {
            request.warnings.extend(tts.put_defaults(&mut request.overrides, &active.run)?);
        }
        let overridden = active.run.overridden_by(&request.overrides);
        let mut settings = overridden.map_err(|error| as_written(request.tts.as_ref(), error))?;
        let named = ["alg", "budget"].iter().any(|field| request.overrides.contains_key(*field));
        if !route.scaled && !named && request.n == 1 {
            settings.algorithm = AlgorithmName::None;
        }
        answers::make_room(&mut settings, request.n, names_budget, names_continuations)?;
        // Compiling patterns may take longer than everything else here.
        let rules = match votes_alike(&settings, &active.run) {
            true => Arc::clone(&active.rules),
            false => Arc::new(super::compile_rules(&settings)?),
        };

        let strategy = path.strategy(request.tts.as_ref(), settings.algorithm);
        let is_chosen = path.algorithm.is_some() || request.tts.as_ref().is_some_and(|tts| tts.strategy.is_some());
        request.apply_defaults(&settings, is_chosen);
        let judge = active.judge(&route);
        let public_name = match wait_rounds {
            Some(_) => precedence::split_wait_suffix(&client_model).map_or(&*client_model, |(model, _)| model),
            None => &client_model,
        };
        let names = [public_name, &route.model];
        let (prices, bounds) = spending::of_run(active, &settings, names, &judge.model, record.arrived())?;
        // Before the plan is made: a model that samples in a way of its own is not greedy at temperature 0.
        request.prompt.model = route.model;
        let fitted = route.generator.fit(&mut request.prompt).map_err(|failure| {
            // No call was made yet.
            ApiError { spent: false, ..ApiError::from(&failure) }
        })?;
        Plan::check_paths(&settings, route.generator.paths(&request.prompt.model))
            .map_err(|error| as_written(request.tts.as_ref(), error))?;
        let wanted = Wanted { answers: request.n, live: request.stream };
        let (plan, warning) =
            Plan::resolve(&settings, Resources { rules, judge }, wanted, &mut request.prompt.sampling)
                .map_err(|error| as_written(request.tts.as_ref(), error))?;
        answers::check(request.n, &plan, warning.as_deref())?;
        request.warnings.extend(warning);
        request.warnings.extend(named_by_client.without_effect(&settings));
        request.warnings.extend(request.tts.as_ref().and_then(|tts| tts.without_effect(settings.algorithm)));
        request.prompt.signals = plan.signals(route.generator.signals(&request.prompt.model))?;
        let (prompt, generator) = (&request.prompt, &route.generator);
        let is_strange =
            |name: &&String| prompt.passthrough.contains_key(*name) && !generator.knows(&prompt.model, name);
        let forwarded = request.unknown_fields.iter().filter(is_strange);
        request.warnings.extend(forwarded.map(|name| format!("unknown field `{name}` was forwarded")));
        request.warnings.extend(fitted);

        let metered = Run::metered(request.prompt.sampling.seed, Arc::clone(record.metrics()), prices);
        let run = Arc::new(Run { bounds, ..metered });
        let identity = Identity {
            completion_id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs().cast_signed()),
            model: client_model,
            algorithm: plan.algorithm_name(),
            revision: active.revision,
        };
        record.note(|facts| {
            facts.algorithm = Some(identity.algorithm);
            facts.revision = Some(identity.revision);
            facts.planned = Some(plan.budget);
            facts.ledger = Some(Arc::clone(&run.ledger));
        });
        Ok(Self {
            identity,
            stream: request.stream,
            stream_options: request.stream_options,
            generator: route.generator,
            plan,
            prompt: Arc::new(request.prompt),
            run,
            spent: OnceLock::new(),
            warnings: request.warnings,
            with_metadata: request.with_metadata,
            strategy,
            record,
        })
    }

    /// The headers that are known before the run.
    pub fn early_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = self.identity.headers();
        headers.extend(warnings_header(&self.warnings));
        headers
    }

    /// Candidates that will be asked for.
    pub fn planned(&self) -> usize {
        self.plan.budget
    }

    /// Whether the run may stay on the thread that serves its client: connections cost it nothing, and its answers are
    /// soon read. Log-probabilities are many times as long as the answer that they belong to.
    pub fn may_stay(&self) -> bool {
        // Long answers take some milliseconds each to be compared, in which other clients of the thread wait.
        const MOST_ANSWERS: usize = 16;
        let reads_much = self.plan.budget > MOST_ANSWERS || self.prompt.wanted_logprobs().is_some();
        !reads_much && !self.plan.is_scored() && self.generator.is_near()
    }

    /// The ids by which a client knows the request.
    pub fn names(&self) -> [String; 2] {
        [self.record.id.clone(), self.identity.completion_id.clone()]
    }

    /// What the latest calls of the run are made for.
    pub fn phase(&self) -> Phase {
        let begun = |phase: &Phase| self.run.ledger.calls(*phase) > 0;
        [Phase::Judge, Phase::Synthesize].into_iter().find(begun).unwrap_or(Phase::Generate)
    }

    /// What a client is told whose request was interrupted, which is also noted for the log.
    pub fn interrupted(&self, why: Interruption) -> ApiError {
        interrupted(why, &self.record)
    }

    /// What the log will say of the request.
    pub fn record(&self) -> &RequestRecord {
        &self.record
    }

    /// Runs to the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every call in flight.
    pub async fn run(&self, observer: &mut impl Observer) -> Result<Outcome, RunError> {
        let runs = &self.record.metrics().runs;
        let mut ending = Ending::new(runs, &self.plan, &self.run.ledger);
        let result = algorithms::run(&self.plan, Arc::clone(&self.prompt), &*self.generator, &self.run, observer).await;
        let spent = self.spent();
        ending.ended(&result, &spent.of_phase(Phase::Generate), self.stops_billing());
        let usage = spent.total();
        self.record.note(|facts| {
            facts.prompt_tokens = Some(usage.prompt_tokens);
            facts.completion_tokens = Some(usage.completion_tokens);
            facts.cost_usd = self.run.cost_of(&spent.by_phase);
            match &result {
                Ok(outcome) => {
                    let (completed, failed, _) = outcome.counts();
                    facts.completed = Some(completed);
                    facts.failed = Some(failed);
                    facts.stop = Some(outcome.stop.reason.as_str());
                }
                Err(error) => {
                    let failure = error.telling();
                    facts.error = Some(cause(failure));
                    facts.asked = asked(&*self.generator, &self.prompt.model, failure);
                }
            }
        });
        if let Err(error) = &result {
            // Not above debug: an upstream may quote the request.
            tracing::debug!(request_id = %self.record.id, %error, "no candidate succeeded");
        }
        result.map(|mut outcome| {
            // Prompts that the run makes itself are told of in the same words.
            outcome.warnings.retain(|warning| !self.warnings.contains(warning));
            outcome.warnings.splice(0..0, self.warnings.iter().cloned());
            outcome
        })
    }

    fn spent(&self) -> &Spent {
        self.spent.get_or_init(|| self.run.ledger.spent())
    }

    fn stops_billing(&self) -> bool {
        self.generator.stops_billing(&self.prompt.model)
    }

    /// The answer together with what was spent on it.
    pub fn finish<'a>(&'a self, outcome: &'a Outcome) -> Finished<'a> {
        let spent = self.spent();
        Finished {
            identity: &self.identity,
            outcome,
            usage: spent.total(),
            by_phase: spent.by_phase.clone(),
            cost_usd: self.run.cost_of(&spent.by_phase),
            stops_billing: self.stops_billing(),
            busy: spent.busy,
            elapsed: self.record.elapsed(),
            with_metadata: self.with_metadata,
            strategy: self.strategy.as_deref(),
        }
    }
}

/// An error that names the field that the client wrote, where one of the `tts_*` family stands for ours.
fn as_written(tts: Option<&Tts>, error: impl Into<ApiError>) -> ApiError {
    let error = error.into();
    let written = error.param.as_deref().and_then(|ours| tts?.written_name(ours).map(|written| (ours, written)));
    match written {
        None => error,
        Some((ours, written)) => {
            let message = format!("{}; here `{ours}` is what `{written}` makes it", error.message);
            ApiError { param: Some(written.to_owned()), message, ..error }
        }
    }
}

/// What the client is told of a request that was interrupted, which is also noted for the log.
pub fn interrupted(why: Interruption, record: &RequestRecord) -> ApiError {
    let error = match why {
        Interruption::Cancelled => {
            let message = "the request was cancelled by POST /v1/chat/cancel";
            ApiError::from(&Failure::new(FailureKind::Cancelled, message))
        }
        Interruption::Stopping => {
            let message = "the daemon stops, and the time to finish is over; ask again when it is back";
            ApiError { spent: true, ..ApiError::unavailable("unavailable", message) }
        }
        Interruption::Unread => {
            let message = "the answer was given up, since nothing of it was read for too long; read as it comes";
            ApiError::from(&Failure::new(FailureKind::Cancelled, message))
        }
    };
    let word = match why {
        Interruption::Cancelled => "request_cancelled",
        Interruption::Stopping => "stopping",
        Interruption::Unread => "unread",
    };
    record.note(|facts| facts.error = Some(word.to_owned()));
    error
}

/// Whether two settings make the same votes, so that what was compiled for one serves the other.
fn votes_alike(a: &RunSettings, b: &RunSettings) -> bool {
    a.tool_vote == b.tool_vote
        && a.vote_on == b.vote_on
        && a.exclude_args == b.exclude_args
        && a.regex_patterns == b.regex_patterns
}

/// What the log says of a failed run. Where an upstream has answered, its words may quote the request, so that
/// only its status is told.
pub fn cause(failure: &Failure) -> String {
    match (failure.status, failure.kind) {
        (Some(status), kind) => format!("{}: status {status}", kind.as_str()),
        (None, FailureKind::Unavailable | FailureKind::LeftAlone | FailureKind::Timeout | FailureKind::Overloaded) => {
            failure.message.clone()
        }
        (None, kind) => kind.as_str().to_owned(),
    }
}

/// Whom the log names as the one that a failed run has asked. A judge is another.
pub fn asked(generator: &dyn Generator, model: &str, failure: &Failure) -> Option<Asked> {
    let is_anothers = failure.kind == FailureKind::JudgeFailed;
    (!is_anothers).then(|| Asked { model: model.to_owned(), upstream: generator.whereabouts() })
}

impl Identity {
    /// The headers that name algorithm and revision.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![
            (HeaderName::from_static("x-its-algorithm"), HeaderValue::from_static(self.algorithm)),
            (HeaderName::from_static("x-its-revision"), HeaderValue::from(self.revision)),
        ]
    }
}
