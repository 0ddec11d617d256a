//! What a run needs to know of its candidates' tokens, and whether it can be known.

use crate::completion::Signals;
use crate::generator::SignalSupport;
use crate::scorers::Scorer;

use super::plan::{Algorithm, Plan, PlanError};
use super::vote::Weighting;

/// What candidates of the plan must tell of their tokens; `None` where nobody asks.
///
/// # Errors
///
/// When those who answer cannot tell it: a run that weighs by confidence must not go on without.
pub fn signals(plan: &Plan, support: SignalSupport) -> Result<Option<Signals>, PlanError> {
    let Some((param, wanted)) = needed(&plan.algorithm) else { return Ok(None) };
    let refused = |what: &str| {
        let message = format!("`{param}` needs {what}; choose another model or provider, or another `{param}`");
        Err(PlanError { param, message })
    };
    if wanted.self_certainty && !support.self_certainty {
        return refused("the probabilities of the whole vocabulary, which only models in this process tell");
    }
    match support.max_top {
        None => refused("log-probabilities, which this provider does not give in OpenAI's shape"),
        Some(most) => Ok(Some(Signals { top: wanted.top.min(most), ..wanted })),
    }
}

/// The field that makes a run look at tokens, and what it must see.
fn needed(algorithm: &Algorithm) -> Option<(&'static str, Signals)> {
    let scorer = match algorithm {
        Algorithm::Single | Algorithm::Several | Algorithm::MixtureOfN(_) | Algorithm::Wait(_) => return None,
        Algorithm::SelfConsistency(settings) if matches!(settings.weighting, Weighting::Confidence { .. }) => {
            return Some(("vote_weight", Signals::default()));
        }
        Algorithm::SelfConsistency(settings) => settings.scorer.as_ref().map(|(scorer, _)| scorer)?,
        Algorithm::BestOfN(settings) => &settings.scorer,
    };
    match scorer {
        Scorer::Judge(_) => None,
        Scorer::Confidence(confidence) => Some(("rm_name", confidence.signals())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::plan::tests::resolve;
    use crate::config::run::{AlgorithmName, RewardName, RunSettings, VoteWeight};

    const REMOTE: SignalSupport = SignalSupport { max_top: Some(20), self_certainty: false };
    const LOCAL: SignalSupport = SignalSupport { max_top: Some(20), self_certainty: true };
    const MUTE: SignalSupport = SignalSupport { max_top: None, self_certainty: false };

    fn asked(settings: RunSettings, support: SignalSupport) -> Result<Option<Signals>, &'static str> {
        signals(&resolve(&settings, None).0, support).map_err(|error| error.param)
    }

    fn weighed(vote_weight: VoteWeight, rm_name: Option<RewardName>) -> RunSettings {
        RunSettings { vote_weight, rm_name, ..RunSettings::default() }
    }

    #[test]
    fn a_run_that_looks_at_no_token_asks_for_none() {
        assert_eq!(asked(RunSettings::default(), MUTE), Ok(None));
        assert_eq!(asked(weighed(VoteWeight::None, Some(RewardName::Entropy)), MUTE), Ok(None));
        let plain = RunSettings { budget: 1, ..weighed(VoteWeight::Confidence, None) };
        assert_eq!(asked(plain, MUTE), Ok(None));
    }

    #[test]
    fn a_weight_by_confidence_needs_the_tokens_and_a_score_what_its_formula_says() {
        assert_eq!(asked(weighed(VoteWeight::Confidence, None), REMOTE), Ok(Some(Signals::default())));
        let entropy = weighed(VoteWeight::Score, Some(RewardName::Entropy));
        assert_eq!(asked(entropy.clone(), REMOTE), Ok(Some(Signals { top: 20, self_certainty: false })));
        let best = RunSettings { algorithm: AlgorithmName::BestOfN, vote_weight: VoteWeight::None, ..entropy.clone() };
        assert_eq!(asked(best, REMOTE), Ok(Some(Signals { top: 20, self_certainty: false })));
        let few = SignalSupport { max_top: Some(5), ..REMOTE };
        assert_eq!(asked(entropy, few), Ok(Some(Signals { top: 5, self_certainty: false })));
    }

    #[test]
    fn what_cannot_be_told_is_refused_by_the_field_that_needs_it() {
        assert_eq!(asked(weighed(VoteWeight::Confidence, None), MUTE), Err("vote_weight"));
        assert_eq!(asked(weighed(VoteWeight::Score, Some(RewardName::Perplexity)), MUTE), Err("rm_name"));
        let certainty = weighed(VoteWeight::Score, Some(RewardName::SelfCertainty));
        assert_eq!(asked(certainty.clone(), REMOTE), Err("rm_name"));
        assert_eq!(asked(certainty, LOCAL), Ok(Some(Signals { top: 0, self_certainty: true })));
    }
}
