//! What a run needs to know of its candidates' tokens, and whether it can be known.

use crate::completion::Signals;
use crate::generator::SignalSupport;
use crate::scorers::Scorer;

use super::plan::{Algorithm, Plan, PlanError};
use super::search::Search;
use super::vote::Weighting;

impl Plan {
    /// What the candidates must tell of their tokens; `None` where nobody asks.
    ///
    /// # Errors
    ///
    /// When those who answer cannot tell it: a run that weighs by confidence must not go on without.
    pub fn signals(&self, support: SignalSupport) -> Result<Option<Signals>, PlanError> {
        let Some((param, wanted)) = self.needed_signals() else { return Ok(None) };
        let refused = |what: &str| {
            let message = format!("`{param}` needs {what}; choose another model or provider, or another `{param}`");
            Err(PlanError { param, message })
        };
        if wanted.self_certainty && !support.self_certainty {
            return refused("the probabilities of the whole vocabulary, which only models in this process tell");
        }
        match support.max_top {
            None => refused("log-probabilities, which this provider does not tell"),
            Some(0) if wanted.top > 0 => refused("the alternatives of each token, which this provider does not tell"),
            Some(most) => Ok(Some(Signals { top: wanted.top.min(most), ..wanted })),
        }
    }

    /// The field that makes the run look at tokens, and what it must see.
    fn needed_signals(&self) -> Option<(&'static str, Signals)> {
        let of_steps = |search: &Search| Some(("rm_name", search.scorer.signals()?));
        let scorer = match &self.algorithm {
            Algorithm::BeamSearch(settings) => return of_steps(&settings.search),
            Algorithm::ParticleFiltering(settings) => return of_steps(&settings.search),
            Algorithm::BestOfN(settings) => Some(&settings.scorer),
            Algorithm::SelfConsistency(settings) => match settings.weighting {
                Weighting::Confidence { .. } => return Some(("vote_weight", Signals::default())),
                Weighting::Equal | Weighting::Scores => settings.scorer.as_ref().map(|(scorer, _)| scorer),
            },
            Algorithm::Single | Algorithm::Several | Algorithm::MixtureOfN(_) | Algorithm::Wait => None,
        };
        match scorer? {
            Scorer::Confidence(confidence) => Some(("rm_name", confidence.signals())),
            Scorer::Judge(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::algorithms::plan::BestOfN;
    use crate::algorithms::vote::VoteRules;
    use crate::config::run::{RewardName, RunSettings};
    use crate::scorers::Confidence;

    const REMOTE: SignalSupport = SignalSupport { max_top: Some(20), self_certainty: false };
    const LOCAL: SignalSupport = SignalSupport { max_top: Some(20), self_certainty: true };
    const MUTE: SignalSupport = SignalSupport { max_top: None, self_certainty: false };

    fn asked(algorithm: Algorithm, support: SignalSupport) -> Result<Option<Signals>, &'static str> {
        let plan = Plan { algorithm, budget: 4, answers: 1, max_candidates: 4, live: false };
        plan.signals(support).map_err(|error| error.param)
    }

    fn scored(name: RewardName) -> Algorithm {
        let settings = RunSettings { rm_name: Some(name), ..RunSettings::default() };
        Algorithm::BestOfN(BestOfN {
            rules: Arc::new(VoteRules::compile(&settings).unwrap()),
            scorer: Scorer::Confidence(Confidence::of(&settings).unwrap()),
            select: settings.select,
            fallback: settings.judge.fallback,
        })
    }

    #[test]
    fn a_run_that_looks_at_no_token_asks_for_none() {
        assert_eq!(asked(Algorithm::Single, MUTE), Ok(None));
        assert_eq!(asked(Algorithm::Several, MUTE), Ok(None));
    }

    #[test]
    fn a_score_by_confidence_asks_for_what_its_formula_says() {
        let signals = |top, self_certainty| Ok(Some(Signals { top, self_certainty }));
        assert_eq!(asked(scored(RewardName::Entropy), REMOTE), signals(20, false));
        assert_eq!(asked(scored(RewardName::Perplexity), REMOTE), signals(0, false));
        assert_eq!(asked(scored(RewardName::SelfCertainty), LOCAL), signals(0, true));
        let few = SignalSupport { max_top: Some(5), ..REMOTE };
        assert_eq!(asked(scored(RewardName::TopKConfidence), few), signals(5, false));
    }

    #[test]
    fn what_cannot_be_told_is_refused_by_the_field_that_needs_it() {
        assert_eq!(asked(scored(RewardName::Perplexity), MUTE), Err("rm_name"));
        assert_eq!(asked(scored(RewardName::SelfCertainty), REMOTE), Err("rm_name"));
        let alone = SignalSupport { max_top: Some(0), ..REMOTE };
        assert_eq!(asked(scored(RewardName::Entropy), alone), Err("rm_name"));
        assert_eq!(asked(scored(RewardName::Perplexity), alone), Ok(Some(Signals::default())));
    }
}
