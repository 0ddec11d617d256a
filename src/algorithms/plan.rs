//! What a run will do: the settings of configuration and request, resolved against the prompt.

use std::sync::Arc;

use crate::completion::Sampling;
use crate::config::run::{AlgorithmName, RunSettings, StopRule};

use super::vote::VoteRules;
use crate::scorers::JudgeTarget;

/// A run, decided upon but not begun.
#[derive(Debug, Clone)]
pub struct Plan {
    pub algorithm: Algorithm,
    /// Candidates asked for; 1 for a single call.
    pub budget: usize,
    /// Answers to return, the best of the run: at least 1, at most `budget`.
    pub answers: usize,
    /// Whether pieces of the answer are wanted as they are generated.
    pub live: bool,
}

/// What the active configuration has built for runs.
pub struct Resources {
    pub rules: Arc<VoteRules>,
    /// Who judges, where the run has a judge: the model that answers unless the configuration names another.
    pub judge: JudgeTarget,
}

/// What the client wants of the response.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How many answers, at least 1.
    pub answers: usize,
    pub live: bool,
}

/// The algorithm, with what it needs.
#[derive(Debug, Clone)]
pub enum Algorithm {
    /// One plain call.
    Single,
    SelfConsistency(SelfConsistency),
}

/// How candidates are voted on and when the vote ends.
#[derive(Debug, Clone)]
pub struct SelfConsistency {
    pub rules: Arc<VoteRules>,
    pub stop_rule: StopRule,
}

/// Why no plan could be made of the settings: a field of theirs that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    pub param: &'static str,
    /// What is wrong and what to change; lower case, no full stop.
    pub message: String,
}

impl Plan {
    /// Resolves `settings` for a prompt drawn with `sampling`, whose temperature is raised to
    /// `diversity_temperature` when it is 0 and several candidates are asked for. Also says what was decided
    /// against the letter of the request.
    ///
    /// # Errors
    ///
    /// When the settings do not make a run.
    pub fn resolve(
        settings: &RunSettings,
        resources: Resources,
        wanted: Wanted,
        sampling: &mut Sampling,
    ) -> Result<(Self, Option<String>), PlanError> {
        let Wanted { answers, live } = wanted;
        let single = Self { algorithm: Algorithm::Single, budget: 1, answers: 1, live };
        let stop_rule = match settings.algorithm {
            AlgorithmName::None => return Ok((single, None)),
            AlgorithmName::SelfConsistency
            | AlgorithmName::AdaptiveSelfConsistency
            | AlgorithmName::BetaSelfConsistency
                if settings.budget == 1 =>
            {
                return Ok((single, None));
            }
            AlgorithmName::SelfConsistency => settings.stop_rule,
            AlgorithmName::AdaptiveSelfConsistency => StopRule::Threshold,
            AlgorithmName::BetaSelfConsistency => StopRule::Beta,
            AlgorithmName::BestOfN | AlgorithmName::MixtureOfN | AlgorithmName::Wait => {
                let message = format!("`alg` `{}` is not supported yet", settings.algorithm.as_str());
                return Err(PlanError { param: "alg", message });
            }
        };
        let warning = match diverse(settings, sampling) {
            Ok(warning) => warning,
            Err(warning) => return Ok((single, Some(warning))),
        };
        let algorithm = Algorithm::SelfConsistency(SelfConsistency { rules: resources.rules, stop_rule });
        Ok((Self { algorithm, budget: settings.budget, answers, live }, warning))
    }

    /// The algorithm's name in headers, metadata and logs.
    pub fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Single => "none",
            Algorithm::SelfConsistency(_) => "self-consistency",
        }
    }
}

/// Sees to it that several candidates differ, and says what was changed for it; `Err` tells why one call is as
/// good as all.
fn diverse(settings: &RunSettings, sampling: &mut Sampling) -> Result<Option<String>, String> {
    if sampling.temperature != Some(0.0) {
        return Ok(None);
    }
    let Some(temperature) = settings.diversity_temperature else {
        return Err(format!(
            "one call instead of {}: at temperature 0 every candidate is the same; set a temperature or diversity_temperature",
            settings.budget
        ));
    };
    sampling.temperature = Some(temperature);
    Ok(Some(format!(
        "temperature 0 was replaced by diversity_temperature {temperature}, since {} greedy answers are one",
        settings.budget
    )))
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::config::provider::StructuredOutput;
    use crate::generator::{Delivery, Extension, Generator, Path, Until};

    /// Plans are made without anybody being asked.
    struct NoGenerator;

    impl Generator for NoGenerator {
        fn extend(&self, _: Vec<Path>, _: Until, _: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
            unreachable!("a plan is not a run")
        }
    }

    fn resolve(settings: &RunSettings, temperature: Option<f64>) -> (Plan, Option<String>, Option<f64>) {
        let mut sampling = Sampling { temperature, ..Sampling::default() };
        let rules = Arc::new(VoteRules::compile(settings).unwrap());
        let judge = JudgeTarget {
            generator: Arc::new(NoGenerator),
            model: "judge".to_owned(),
            structured_output: StructuredOutput::Unknown,
        };
        let wanted = Wanted { answers: 1, live: false };
        let resources = Resources { rules, judge };
        let (plan, warning) = Plan::resolve(settings, resources, wanted, &mut sampling).unwrap();
        (plan, warning, sampling.temperature)
    }

    #[test]
    fn a_budget_of_one_is_one_plain_call() {
        let settings = RunSettings { budget: 1, ..RunSettings::default() };
        let (plan, warning, _) = resolve(&settings, Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget, warning), ("none", 1, None));
    }

    #[test]
    fn greedy_candidates_collapse_into_one_call_and_say_so() {
        let (plan, warning, _) = resolve(&RunSettings::default(), Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget), ("none", 1));
        assert!(warning.unwrap().contains("diversity_temperature"));
    }

    #[test]
    fn a_diversity_temperature_keeps_a_greedy_request_diverse() {
        let settings = RunSettings { diversity_temperature: Some(0.7), ..RunSettings::default() };
        let (plan, warning, temperature) = resolve(&settings, Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget, temperature), ("self-consistency", 8, Some(0.7)));
        assert!(warning.is_some());
    }

    #[test]
    fn an_unnamed_temperature_is_left_to_the_provider() {
        let (plan, warning, temperature) = resolve(&RunSettings::default(), None);
        assert_eq!((plan.budget, warning, temperature), (8, None, None));
    }
}
