//! What a search will do: its settings, checked against each other.

use std::sync::Arc;

use crate::algorithms::plan::PlanError;
use crate::algorithms::vote::VoteRules;
use crate::config::run::{
    AlgorithmName, FinalSelect, ParticleWeights, Resample, Resampling, RewardName, RunSettings, TemperatureSwitch,
};
use crate::generator::{self, StepRule};
use crate::scorers::{StepConfidence, StepScorer};

use super::Search;

/// What ends a step where nothing else is said.
const BLANK_LINE: &str = "\n\n";

/// What scores paths.
const SCORERS: [RewardName; 3] = [RewardName::Entropy, RewardName::Perplexity, RewardName::SequenceProb];

/// Particle filtering, with what it needs.
#[derive(Debug, Clone)]
pub struct ParticleFiltering {
    pub search: Search,
    pub weights: ParticleWeights,
    pub resample: Resample,
    pub resampling: Resampling,
    pub final_select: FinalSelect,
}

/// Beam search, with what it needs.
#[derive(Debug, Clone)]
pub struct BeamSearch {
    pub search: Search,
    /// Paths that are kept after each step, at least 1.
    pub width: usize,
    /// Continuations of each of them, at least 1.
    pub per_beam: usize,
    /// Whether of paths that say the same one is kept.
    pub dedup: bool,
}

impl Search {
    fn of(settings: &RunSettings, rules: Arc<VoteRules>) -> Result<Self, PlanError> {
        let text = |text: &String| Arc::<str>::from(text.as_str());
        let switch = |TemperatureSwitch { temperature, open, close }: &TemperatureSwitch| {
            generator::TemperatureSwitch { temperature: *temperature, open: text(open), close: text(close) }
        };
        let steps = StepRule {
            step_token: Some(settings.step_token.as_ref().map_or_else(|| BLANK_LINE.into(), text)),
            tokens_per_step: settings.tokens_per_step.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            stop_token: settings.search.stop_token.as_ref().map(text),
            ends_when_boxed: true,
            temperature_switch: settings.search.temperature_switch.as_ref().map(switch),
        };
        let max_steps = settings.search.max_steps;
        Ok(Self { steps: Arc::new(steps), scorer: scorer(settings)?, max_steps, rules })
    }
}

impl ParticleFiltering {
    /// # Errors
    ///
    /// What does not fit together, by the field to change.
    pub fn of(settings: &RunSettings, rules: Arc<VoteRules>) -> Result<Self, PlanError> {
        let (weights, resample) = (settings.search.weights, settings.search.resample);
        if resample == Resample::Ess && weights == ParticleWeights::Absolute {
            let message = "`weights` must be `incremental` with `resample` `ess`: absolute ones forget the steps at which \
                           particles were not drawn anew";
            return Err(PlanError { param: "weights", message: message.to_owned() });
        }
        let (resampling, final_select) = (settings.search.resampling, settings.search.final_select);
        Ok(Self { search: Search::of(settings, rules)?, weights, resample, resampling, final_select })
    }
}

impl BeamSearch {
    /// # Errors
    ///
    /// What does not fit together, by the field to change.
    pub fn of(settings: &RunSettings, rules: Arc<VoteRules>) -> Result<Self, PlanError> {
        let (budget, width) = (settings.budget, settings.search.beam_width);
        if !budget.is_multiple_of(width) {
            let message = format!(
                "`beam_width` is {width} and must divide `budget`, which is {budget}: each of so many paths has as many \
                 continuations as the other; change one of the two"
            );
            return Err(PlanError { param: "beam_width", message });
        }
        let per_beam = budget / width;
        if let Some(said) = settings.search.candidates_per_step.filter(|said| *said != per_beam) {
            let message = format!(
                "`candidates_per_step` is {said}, but `budget` {budget} over `beam_width` {width} is {per_beam}; leave it \
                 out, or set `budget` to {}",
                said.saturating_mul(width)
            );
            return Err(PlanError { param: "candidates_per_step", message });
        }
        Ok(Self { search: Search::of(settings, rules)?, width, per_beam, dedup: settings.search.dedup })
    }

    /// The same search of one path alone.
    #[must_use]
    pub fn of_one(self) -> Self {
        Self { width: 1, per_beam: 1, ..self }
    }
}

/// What scores paths.
fn scorer(settings: &RunSettings) -> Result<Arc<dyn StepScorer>, PlanError> {
    if let Some(confidence) = StepConfidence::of(settings) {
        return Ok(Arc::new(confidence));
    }
    let known = SCORERS.map(RewardName::as_str).join("`, `");
    let message = match settings.rm_name {
        None => format!(
            "`alg` `{}` needs `rm_name`, which says what scores its steps: one of `{known}`",
            settings.algorithm.as_str()
        ),
        Some(RewardName::LlmJudge) => format!(
            "`rm_name` `llm-judge` judges whole answers and not their steps; a search needs one of `{known}`, or take \
             `alg` `{}`",
            AlgorithmName::BestOfN.as_str()
        ),
        Some(name) => format!(
            "`rm_name` `{}` has no upper end, and a search needs scores from 0 to 1: those of `{known}`",
            name.as_str()
        ),
    };
    Err(PlanError { param: "rm_name", message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::run::SearchSettings;

    fn settings(search: SearchSettings) -> RunSettings {
        let algorithm = AlgorithmName::BeamSearch;
        RunSettings { algorithm, rm_name: Some(RewardName::Entropy), search, ..RunSettings::default() }
    }

    fn beams(settings: &RunSettings) -> Result<(usize, usize), &'static str> {
        let rules = Arc::new(VoteRules::compile(settings).unwrap());
        BeamSearch::of(settings, rules).map(|beams| (beams.width, beams.per_beam)).map_err(|error| error.param)
    }

    #[test]
    fn the_budget_is_spread_over_the_beams_without_a_rest() {
        let search = |beam_width, candidates_per_step| SearchSettings {
            beam_width,
            candidates_per_step,
            ..SearchSettings::default()
        };
        for (budget, search, expected) in [
            (8, search(4, None), Ok((4, 2))),
            (8, search(8, None), Ok((8, 1))),
            (16, search(4, Some(4)), Ok((4, 4))),
            (1, search(1, None), Ok((1, 1))),
            (8, search(3, None), Err("beam_width")),
            (2, search(4, None), Err("beam_width")),
            (8, search(4, Some(4)), Err("candidates_per_step")),
        ] {
            assert_eq!(beams(&RunSettings { budget, ..settings(search) }), expected, "{budget}");
        }
    }

    #[test]
    fn particles_that_are_not_always_drawn_anew_need_weights_that_add_up() {
        use ParticleWeights::{Absolute, Incremental};
        use Resample::{Always, Ess};
        for (resample, weights, is_refused) in
            [(Always, Absolute, false), (Always, Incremental, false), (Ess, Incremental, false), (Ess, Absolute, true)]
        {
            let settings = settings(SearchSettings { resample, weights, ..SearchSettings::default() });
            let rules = Arc::new(VoteRules::compile(&settings).unwrap());
            let param = ParticleFiltering::of(&settings, rules).err().map(|error| error.param);
            assert_eq!(param, is_refused.then_some("weights"), "{resample:?} {weights:?}");
        }
    }

    #[test]
    fn only_scores_with_two_ends_lead_a_search() {
        use RewardName::{Entropy, LlmJudge, Perplexity, SelfCertainty, SequenceProb, TopKConfidence};
        for (name, is_taken) in [
            (None, false),
            (Some(LlmJudge), false),
            (Some(SelfCertainty), false),
            (Some(TopKConfidence), false),
            (Some(Entropy), true),
            (Some(Perplexity), true),
            (Some(SequenceProb), true),
        ] {
            let settings = RunSettings { rm_name: name, ..settings(SearchSettings::default()) };
            match scorer(&settings) {
                Ok(_) => assert!(is_taken, "{name:?}"),
                Err(error) => {
                    assert!(!is_taken && error.param == "rm_name", "{name:?}");
                    assert!(error.message.contains("`entropy`, `perplexity`, `sequence_prob`"), "{}", error.message);
                }
            }
        }
    }

    #[test]
    fn a_step_ends_at_a_blank_line_unless_another_token_is_named() {
        let rule = |step_token: Option<&str>| {
            let settings =
                RunSettings { step_token: step_token.map(str::to_owned), ..settings(SearchSettings::default()) };
            let rules = Arc::new(VoteRules::compile(&settings).unwrap());
            Search::of(&settings, rules).unwrap().steps.step_token.clone()
        };
        assert_eq!((rule(None).as_deref(), rule(Some("\n")).as_deref()), (Some("\n\n"), Some("\n")));
    }
}
