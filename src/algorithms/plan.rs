//! What a run will do: the settings of configuration and request, resolved against the prompt.

use std::sync::Arc;

use crate::completion::Sampling;
use crate::config::run::{AlgorithmName, JudgeFallback, RewardName, RunSettings, StopRule, VoteWeight, Wave};

use super::stop_rule::Stopping;
use super::vote::{VoteRules, Weighting};
use crate::scorers::{Judge, JudgeTarget, Scorer};

/// A run, decided upon but not begun.
#[derive(Debug, Clone)]
pub struct Plan {
    pub algorithm: Algorithm,
    /// Candidates asked for; 1 for a single call.
    pub budget: usize,
    /// Answers to return, the best of the run: at least 1, at most `budget`.
    pub answers: usize,
    /// Candidates that may be started, at least 1; the run ends with those where it is fewer than `budget`.
    pub max_candidates: usize,
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
    /// Plain calls, all of whose answers are returned.
    Several,
    SelfConsistency(SelfConsistency),
}

/// How candidates are voted on and when the vote ends.
#[derive(Debug, Clone)]
pub struct SelfConsistency {
    pub rules: Arc<VoteRules>,
    pub stopping: Stopping,
    pub wave: Wave,
    pub weighting: Weighting,
    /// What gives the scores of [`Weighting::Scores`], and what is done where it cannot.
    pub scorer: Option<(Scorer, JudgeFallback)>,
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
        let max_candidates = settings.limits.max_candidates.unwrap_or(usize::MAX);
        let plain = Self { algorithm: Algorithm::Single, budget: 1, answers: 1, max_candidates, live };
        let plain = match answers {
            1 => plain,
            _ => Self { algorithm: Algorithm::Several, budget: answers, answers, ..plain },
        };
        let stop_rule = match settings.algorithm {
            AlgorithmName::None => return Ok((plain, None)),
            _ if answers > settings.budget => {
                let message = format!(
                    "`n` asks for {answers} answers of {} candidates; raise `budget`, or ask for fewer",
                    settings.budget
                );
                return Err(PlanError { param: "n", message });
            }
            AlgorithmName::SelfConsistency
            | AlgorithmName::AdaptiveSelfConsistency
            | AlgorithmName::BetaSelfConsistency
                if settings.budget == 1 =>
            {
                return Ok((plain, None));
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
            Err(warning) => return Ok((plain, Some(warning))),
        };
        let stopping = Stopping::of(stop_rule, settings);
        let (weighting, scorer) = match settings.vote_weight {
            VoteWeight::None => (Weighting::Equal, None),
            VoteWeight::Confidence => (Weighting::Confidence { temperature: settings.weight_temperature }, None),
            VoteWeight::Score => {
                (Weighting::Scores, Some((scorer(settings, resources.judge)?, settings.judge.fallback)))
            }
        };
        let (stopping, warning) = match stopping {
            Stopping::Never | Stopping::Decided => (stopping, warning),
            _ if weighting != Weighting::Scores => (stopping, warning),
            _ => (Stopping::Never, Some(too_late(stop_rule, warning))),
        };
        let (rules, wave) = (resources.rules, settings.wave);
        let algorithm = Algorithm::SelfConsistency(SelfConsistency { rules, stopping, wave, weighting, scorer });
        Ok((Self { algorithm, budget: settings.budget, answers, max_candidates, live }, warning))
    }

    /// Whether the run itself reads the log-probabilities of its candidates, so that they must be asked for.
    pub fn needs_logprobs(&self) -> bool {
        match &self.algorithm {
            Algorithm::Single | Algorithm::Several => false,
            Algorithm::SelfConsistency(settings) => matches!(settings.weighting, Weighting::Confidence { .. }),
        }
    }

    /// The algorithm's name in headers, metadata and logs.
    pub fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Single | Algorithm::Several => "none",
            Algorithm::SelfConsistency(_) => "self-consistency",
        }
    }
}

/// What gives the scores that `vote_weight` asks for.
fn scorer(settings: &RunSettings, target: JudgeTarget) -> Result<Scorer, PlanError> {
    match settings.rm_name {
        Some(RewardName::LlmJudge) => Ok(Scorer::Judge(Judge { target, settings: settings.judge.clone() })),
        Some(other) => {
            let message = format!("`rm_name` `{}` is not supported yet; use `llm-judge`", other.as_str());
            Err(PlanError { param: "rm_name", message })
        }
        None => Err(PlanError {
            param: "rm_name",
            message: "`vote_weight` `score` needs `rm_name`, which says what gives the scores".to_owned(),
        }),
    }
}

/// Says that a stop rule has no effect, after whatever else there is to say.
fn too_late(stop_rule: StopRule, said: Option<String>) -> String {
    let this = format!(
        "stop_rule `{}` has no effect with vote_weight `score`, since scores are given when every candidate is in",
        stop_rule.as_str()
    );
    said.into_iter().chain([this]).collect::<Vec<_>>().join("; ")
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
