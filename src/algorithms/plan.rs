//! What a run will do: the settings of configuration and request, resolved against the prompt.

use std::sync::Arc;

use crate::completion::Sampling;
use crate::config::run::{AlgorithmName, JudgeFallback, RewardName, RunSettings, Select, StopRule, VoteWeight, Wave};
use crate::generator::{CONTINUES_NOTHING, PathSupport};
use crate::scorers::{Confidence, Judge, JudgeTarget, Scorer};

use super::search::{BeamSearch, ParticleFiltering};
use super::stop_rule::Stopping;
use super::vote::{VoteRules, Weighting};

/// A run, decided upon but not begun.
#[derive(Debug, Clone)]
pub struct Plan {
    pub algorithm: Algorithm,
    /// Candidates asked for, or paths held at a time; 1 for a single call.
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
    BestOfN(BestOfN),
    /// The vote is that of self-consistency, for want of a synthesis.
    MixtureOfN(Arc<VoteRules>),
    /// As many rounds as the plan's budget says.
    Wait,
    BeamSearch(BeamSearch),
    ParticleFiltering(ParticleFiltering),
}

/// How candidates are voted on and when the vote ends.
#[derive(Debug, Clone)]
pub struct SelfConsistency {
    /// Self-consistency itself, or that with a stop rule of its own.
    pub name: AlgorithmName,
    pub rules: Arc<VoteRules>,
    pub stopping: Stopping,
    pub wave: Wave,
    pub weighting: Weighting,
    /// What gives the scores of [`Weighting::Scores`], and what is done where it cannot.
    pub scorer: Option<(Scorer, JudgeFallback)>,
}

/// How candidates are scored, and what is made of the scores.
#[derive(Debug, Clone)]
pub struct BestOfN {
    /// The classes of answers, for choices by class and for a vote in the scorer's stead.
    pub rules: Arc<VoteRules>,
    pub scorer: Scorer,
    pub select: Select,
    pub fallback: JudgeFallback,
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
        if settings.algorithm == AlgorithmName::None {
            return Ok((plain, None));
        }
        if matches!(settings.algorithm, AlgorithmName::MixtureOfN | AlgorithmName::Wait) && answers > 1 {
            let name = settings.algorithm.as_str();
            let message = format!("`n` must be 1 for `alg` `{name}`, which makes one answer of all that it asks for");
            return Err(PlanError { param: "n", message });
        }
        if settings.algorithm == AlgorithmName::Wait {
            // Rounds follow from each other: neither budget nor temperature has a say in how many there are.
            let budget = settings.wait_rounds + 1;
            return Ok((Self { algorithm: Algorithm::Wait, budget, ..plain }, None));
        }
        if answers > settings.budget {
            let message = format!(
                "`n` asks for {answers} answers of {} candidates; raise `budget`, or ask for fewer",
                settings.budget
            );
            return Err(PlanError { param: "n", message });
        }
        let algorithm = Algorithm::of(settings, resources)?;
        if settings.algorithm.is_search() {
            return Ok(Self { algorithm, budget: settings.budget, answers, max_candidates, live }
                .searching(settings, sampling));
        }
        if settings.budget == 1 {
            return Ok((plain, None));
        }
        match diverse(settings, answers, sampling) {
            Ok(warning) => {
                let warnings: Vec<String> = warning.into_iter().chain(stopped_too_early(settings)).collect();
                let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
                Ok((Self { algorithm, budget: settings.budget, answers, max_candidates, live }, warning))
            }
            Err(warning) => Ok((plain, Some(warning))),
        }
    }

    /// A search goes by its own rules also where it has one path alone, to which it comes down where all would be the same.
    fn searching(self, settings: &RunSettings, sampling: &mut Sampling) -> (Self, Option<String>) {
        let switch = settings.search.temperature_switch.as_ref();
        if settings.budget == 1 || switch.is_some_and(|switch| switch.temperature > 0.0) {
            return (self, None);
        }
        match diverse(settings, 1, sampling) {
            Ok(warning) => (self, warning),
            Err(_) => {
                let algorithm = match self.algorithm {
                    Algorithm::BeamSearch(beams) => Algorithm::BeamSearch(beams.of_one()),
                    other => other,
                };
                let warning = format!(
                    "one path instead of {}: at temperature 0 every path is the same; set a temperature or \
                     diversity_temperature",
                    settings.budget
                );
                (Self { algorithm, budget: 1, answers: 1, ..self }, Some(warning))
            }
        }
    }

    /// Checks that paths can be had of those who answer, where the settings search over such.
    ///
    /// # Errors
    ///
    /// When they continue no partial answer, without which a search must not go on, or not so many at the same time.
    pub fn check_paths(settings: &RunSettings, support: Option<PathSupport>) -> Result<(), PlanError> {
        if !settings.algorithm.is_search() {
            return Ok(());
        }
        let Some(PathSupport { most, .. }) = support else {
            return Err(PlanError { param: "alg", message: CONTINUES_NOTHING.to_owned() });
        };
        let held = settings.budget.min(settings.limits.max_candidates.unwrap_or(usize::MAX));
        if held > most {
            let message = format!(
                "a search of {held} paths is more than the model has at the same time, which is {most}; lower `budget`"
            );
            return Err(PlanError { param: "budget", message });
        }
        Ok(())
    }

    /// Candidates that may be begun, or paths that may be held at a time.
    pub fn held(&self) -> usize {
        self.budget.min(self.max_candidates)
    }

    /// Whether a scorer has a part in the run: another model that judges, or much to compute.
    pub fn is_scored(&self) -> bool {
        match &self.algorithm {
            Algorithm::BestOfN(_) | Algorithm::BeamSearch(_) | Algorithm::ParticleFiltering(_) => true,
            Algorithm::SelfConsistency(vote) => vote.scorer.is_some(),
            Algorithm::Single | Algorithm::Several | Algorithm::MixtureOfN(_) | Algorithm::Wait => false,
        }
    }

    /// Whether its calls are steps of paths.
    pub fn is_search(&self) -> bool {
        matches!(self.algorithm, Algorithm::BeamSearch(_) | Algorithm::ParticleFiltering(_))
    }

    /// The algorithm's name in headers, metadata and logs.
    pub fn algorithm_name(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Single | Algorithm::Several => "none",
            Algorithm::SelfConsistency(vote) => vote.name.as_str(),
            Algorithm::BestOfN(_) => "best-of-n",
            Algorithm::MixtureOfN(_) => "mixture-of-n",
            Algorithm::Wait => "wait",
            Algorithm::BeamSearch(_) => "beam-search",
            Algorithm::ParticleFiltering(_) => "particle-filtering",
        }
    }
}

impl Algorithm {
    /// The algorithm over several candidates that the settings name.
    fn of(settings: &RunSettings, resources: Resources) -> Result<Self, PlanError> {
        let Resources { rules, judge } = resources;
        let (select, fallback, wave) = (settings.select, settings.judge.fallback, settings.wave);
        match settings.algorithm {
            AlgorithmName::None => return Ok(Self::Single),
            AlgorithmName::BestOfN => {
                return Ok(Self::BestOfN(BestOfN { rules, scorer: scorer(settings, judge)?, select, fallback }));
            }
            AlgorithmName::MixtureOfN => return Ok(Self::MixtureOfN(rules)),
            AlgorithmName::Wait => return Ok(Self::Wait),
            AlgorithmName::BeamSearch => return Ok(Self::BeamSearch(BeamSearch::of(settings, rules)?)),
            AlgorithmName::ParticleFiltering => {
                return Ok(Self::ParticleFiltering(ParticleFiltering::of(settings, rules)?));
            }
            AlgorithmName::SelfConsistency
            | AlgorithmName::AdaptiveSelfConsistency
            | AlgorithmName::BetaSelfConsistency => {}
        }
        let (weighting, scorer) = match settings.vote_weight {
            VoteWeight::None => (Weighting::Equal, None),
            VoteWeight::Confidence => (Weighting::Confidence { temperature: settings.weight_temperature }, None),
            VoteWeight::Score => (Weighting::Scores, Some((scorer(settings, judge)?, fallback))),
        };
        let stopping = match stopped_too_early(settings) {
            None => Stopping::of(stop_rule(settings), settings),
            Some(_) => Stopping::Never,
        };
        let name = settings.algorithm;
        Ok(Self::SelfConsistency(SelfConsistency { name, rules, stopping, wave, weighting, scorer }))
    }
}

/// The rule that ends the vote: two of the algorithms are self-consistency with a rule of their own.
pub(super) fn stop_rule(settings: &RunSettings) -> StopRule {
    match settings.algorithm {
        AlgorithmName::AdaptiveSelfConsistency => StopRule::Threshold,
        AlgorithmName::BetaSelfConsistency => StopRule::Beta,
        _ => settings.stop_rule,
    }
}

/// Says so where the stop rule cannot have an effect: what leads before scores are given is not what decides.
/// `decided` knows that by itself.
fn stopped_too_early(settings: &RunSettings) -> Option<String> {
    let rule = stop_rule(settings);
    let looks_at_votes = matches!(rule, StopRule::Beta | StopRule::Window | StopRule::Threshold);
    let is_vote = matches!(
        settings.algorithm,
        AlgorithmName::SelfConsistency | AlgorithmName::AdaptiveSelfConsistency | AlgorithmName::BetaSelfConsistency
    );
    (looks_at_votes && is_vote && settings.vote_weight == VoteWeight::Score).then(|| {
        format!(
            "stop_rule `{}` has no effect with vote_weight `score`, since scores are given when every candidate is in",
            rule.as_str()
        )
    })
}

/// What scores candidates.
fn scorer(settings: &RunSettings, judge: JudgeTarget) -> Result<Scorer, PlanError> {
    reward(settings)?;
    Ok(match Confidence::of(settings) {
        Some(confidence) => Scorer::Confidence(confidence),
        None => Scorer::Judge(Judge { target: judge, settings: settings.judge.clone() }),
    })
}

/// The name of what scores candidates.
fn reward(settings: &RunSettings) -> Result<RewardName, PlanError> {
    settings.rm_name.ok_or_else(|| {
        let asks = match settings.algorithm {
            AlgorithmName::BestOfN => "`alg` `best-of-n`",
            _ => "`vote_weight` `score`",
        };
        let known = RewardName::WORDS.join("`, `");
        let message = format!("{asks} needs `rm_name`, which says what scores the candidates: one of `{known}`");
        PlanError { param: "rm_name", message }
    })
}

/// Sees to it that several candidates differ, and says what was changed for it; `Err` tells why one call is as
/// good as all, or as many calls as answers are wanted.
fn diverse(settings: &RunSettings, answers: usize, sampling: &mut Sampling) -> Result<Option<String>, String> {
    if sampling.temperature != Some(0.0) {
        return Ok(None);
    }
    let Some(temperature) = settings.diversity_temperature else {
        let calls = match answers {
            1 => format!("one call instead of {}", settings.budget),
            _ => format!(
                "{answers} plain calls, whose answers are returned as they are, instead of a choice among {}",
                settings.budget
            ),
        };
        return Err(format!(
            "{calls}: at temperature 0 every candidate is the same; set a temperature or diversity_temperature"
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
    use crate::config::capabilities::StructuredOutput;
    use crate::config::run::Limits;
    use crate::generator::{Delivery, Extension, Generator, Path, Until};
    use crate::scorers::Lessons;

    /// Plans are made without anybody being asked.
    struct NoGenerator;

    impl Generator for NoGenerator {
        fn extend(&self, _: Vec<Path>, _: Until, _: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
            unreachable!("a plan is not a run")
        }
    }

    fn resources(settings: &RunSettings) -> Resources {
        let rules = Arc::new(VoteRules::compile(settings).unwrap());
        let judge = JudgeTarget {
            generator: Arc::new(NoGenerator),
            model: "judge".to_owned(),
            structured_output: StructuredOutput::Unknown,
            lessons: Lessons::default(),
        };
        Resources { rules, judge }
    }

    fn resolve(settings: &RunSettings, temperature: Option<f64>) -> (Plan, Option<String>, Option<f64>) {
        let mut sampling = Sampling { temperature, ..Sampling::default() };
        let wanted = Wanted { answers: 1, live: false };
        let (plan, warning) = Plan::resolve(settings, resources(settings), wanted, &mut sampling).unwrap();
        (plan, warning, sampling.temperature)
    }

    #[test]
    fn a_budget_of_one_is_one_plain_call() {
        let settings = RunSettings { budget: 1, ..RunSettings::default() };
        let (plan, warning, _) = resolve(&settings, Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget, warning), ("none", 1, None));
    }

    #[test]
    fn a_plan_is_called_what_the_client_chose() {
        for algorithm in
            [AlgorithmName::SelfConsistency, AlgorithmName::AdaptiveSelfConsistency, AlgorithmName::BetaSelfConsistency]
        {
            let settings = RunSettings { algorithm, ..RunSettings::default() };
            assert_eq!(resolve(&settings, None).0.algorithm_name(), algorithm.as_str());
        }
    }

    #[test]
    fn greedy_candidates_collapse_into_one_call_and_say_so() {
        let (plan, warning, _) = resolve(&RunSettings::default(), Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget), ("none", 1));
        assert!(warning.unwrap().contains("diversity_temperature"));
    }

    #[test]
    fn greedy_answers_of_which_several_are_wanted_are_as_many_plain_calls() {
        let mut sampling = Sampling { temperature: Some(0.0), ..Sampling::default() };
        let wanted = Wanted { answers: 3, live: false };
        let settings = RunSettings::default();
        let (plan, warning) = Plan::resolve(&settings, resources(&settings), wanted, &mut sampling).unwrap();
        assert_eq!((plan.algorithm_name(), plan.budget, plan.answers), ("none", 3, 3));
        let warning = warning.unwrap();
        assert!(warning.starts_with("3 plain calls") && warning.contains("instead of a choice among 8"), "{warning}");
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

    #[test]
    fn wait_has_a_round_more_than_checks_and_heeds_neither_budget_nor_temperature() {
        for wait_rounds in [0, 6] {
            let settings =
                RunSettings { algorithm: AlgorithmName::Wait, wait_rounds, budget: 1, ..RunSettings::default() };
            let (plan, warning, temperature) = resolve(&settings, Some(0.0));
            assert_eq!((plan.algorithm_name(), plan.budget, plan.answers), ("wait", wait_rounds + 1, 1));
            assert_eq!((warning, temperature), (None, Some(0.0)));
        }
    }

    #[test]
    fn a_mixture_of_one_or_of_equals_is_one_call() {
        let settings = |budget| RunSettings { algorithm: AlgorithmName::MixtureOfN, budget, ..RunSettings::default() };
        assert_eq!(resolve(&settings(1), None).0.algorithm_name(), "none");
        let (plan, warning, _) = resolve(&settings(4), Some(0.0));
        assert_eq!((plan.algorithm_name(), plan.budget), ("none", 1));
        assert!(warning.unwrap().contains("diversity_temperature"));
        let (plan, _, _) = resolve(&settings(4), Some(0.7));
        assert_eq!((plan.algorithm_name(), plan.budget, plan.answers), ("mixture-of-n", 4, 1));
    }

    #[test]
    fn a_search_has_no_more_paths_than_there_may_be() {
        let support = Some(PathSupport { text_is_content: true, most: 128 });
        let of = |algorithm, budget, max_candidates, support| {
            let limits = Limits { max_candidates, ..Limits::default() };
            let settings = RunSettings { algorithm, budget, limits, ..RunSettings::default() };
            Plan::check_paths(&settings, support).map_err(|error| error.param)
        };
        for algorithm in [AlgorithmName::BeamSearch, AlgorithmName::ParticleFiltering] {
            assert_eq!(of(algorithm, 128, None, support), Ok(()));
            assert_eq!(of(algorithm, 129, None, support), Err("budget"));
            assert_eq!(of(algorithm, 200, Some(128), support), Ok(()), "it holds no more");
            assert_eq!(of(algorithm, 2, None, None), Err("alg"));
        }
        assert_eq!(of(AlgorithmName::BestOfN, 1000, None, support), Ok(()));
    }
}
