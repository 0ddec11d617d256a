//! Fields that a request names for its run although they cannot have an effect on it.
//!
//! The same fields in the configuration are defaults for other requests, and nothing is said of them.

use crate::config::run::{AlgorithmName, RunSettings};

use super::plan::stop_rule;

/// Fields that only runs of these algorithms read.
const READ_BY: &[(&str, &[AlgorithmName])] = &[
    ("wait_rounds", &[AlgorithmName::Wait]),
    ("max_steps", SEARCHES),
    ("stop_token", SEARCHES),
    ("temperature_switch", SEARCHES),
    ("beam_width", &[AlgorithmName::BeamSearch]),
    ("candidates_per_step", &[AlgorithmName::BeamSearch]),
    ("dedup", &[AlgorithmName::BeamSearch]),
    ("resampling", &[AlgorithmName::ParticleFiltering]),
    ("resample", &[AlgorithmName::ParticleFiltering]),
    ("weights", &[AlgorithmName::ParticleFiltering]),
    ("final_select", &[AlgorithmName::ParticleFiltering]),
    ("iterations", &[AlgorithmName::ParticleFiltering]),
];
const SEARCHES: &[AlgorithmName] = &[AlgorithmName::BeamSearch, AlgorithmName::ParticleFiltering];

/// Which of the fields that some runs do not read a request names itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// In the body or the path.
    scorer: bool,
    stop_rule: bool,
    /// Of [`READ_BY`].
    of_some: Vec<&'static str>,
}

impl Named {
    /// Asks of each field whether the request names it.
    pub fn of(is_named: impl Fn(&str) -> bool) -> Self {
        let of_some = READ_BY.iter().map(|(name, _)| *name).filter(|name| is_named(name)).collect();
        Self { scorer: is_named("rm_name"), stop_rule: is_named("stop_rule"), of_some }
    }

    /// What to warn of when the request has these settings.
    pub fn without_effect(&self, settings: &RunSettings) -> Vec<String> {
        use AlgorithmName::{AdaptiveSelfConsistency, BetaSelfConsistency, SelfConsistency};
        let algorithm = settings.algorithm;
        let name = algorithm.as_str();
        let votes = matches!(algorithm, SelfConsistency | AdaptiveSelfConsistency | BetaSelfConsistency);
        let mut warnings = Vec::new();
        if self.scorer && !settings.is_scored() {
            let unless = if votes { " unless `vote_weight` is `score`" } else { "" };
            warnings.push(format!("`rm_name` has no effect: `alg` `{name}` scores nothing{unless}"));
        }
        for (field, readers) in READ_BY.iter().filter(|(field, _)| self.of_some.contains(field)) {
            if !readers.contains(&algorithm) {
                let readers = readers.iter().map(|reader| reader.as_str()).collect::<Vec<_>>().join("` and `");
                warnings.push(format!("`{field}` has no effect with `alg` `{name}`, only with `{readers}`"));
            }
        }
        let own_rule = stop_rule(settings);
        if self.stop_rule && own_rule != settings.stop_rule {
            let (named, own) = (settings.stop_rule.as_str(), own_rule.as_str());
            warnings.push(format!("`stop_rule` `{named}` has no effect with `alg` `{name}`, whose rule is `{own}`"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::run::{StopRule, VoteWeight};

    fn warned(named: &Named, algorithm: AlgorithmName, vote_weight: VoteWeight) -> Vec<String> {
        let settings = RunSettings { algorithm, vote_weight, stop_rule: StopRule::Window, ..RunSettings::default() };
        let warnings = named.without_effect(&settings);
        warnings.iter().map(|warning| warning.split('`').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn what_a_run_does_not_read_is_warned_of_where_the_request_names_it() {
        use AlgorithmName::{
            AdaptiveSelfConsistency, BeamSearch, BestOfN, BetaSelfConsistency, MixtureOfN, ParticleFiltering,
            SelfConsistency, Wait,
        };
        let some = Named::of(|field| ["rm_name", "wait_rounds", "stop_rule"].contains(&field));
        for (algorithm, vote_weight, expected) in [
            (SelfConsistency, VoteWeight::None, vec!["rm_name", "wait_rounds"]),
            (SelfConsistency, VoteWeight::Score, vec!["wait_rounds"]),
            (AdaptiveSelfConsistency, VoteWeight::None, vec!["rm_name", "wait_rounds", "stop_rule"]),
            (BetaSelfConsistency, VoteWeight::Score, vec!["wait_rounds", "stop_rule"]),
            (BestOfN, VoteWeight::None, vec!["wait_rounds"]),
            (MixtureOfN, VoteWeight::Score, vec!["rm_name", "wait_rounds"]),
            (Wait, VoteWeight::None, vec!["rm_name"]),
            (AlgorithmName::None, VoteWeight::None, vec!["rm_name", "wait_rounds"]),
        ] {
            assert_eq!(warned(&some, algorithm, vote_weight), expected, "{algorithm:?}");
            assert!(warned(&Named::default(), algorithm, vote_weight).is_empty(), "the configuration's are defaults");
        }
        let all = Named::of(|field| field != "stop_rule");
        let of_particles = ["resampling", "resample", "weights", "final_select", "iterations"];
        let of_beams = ["beam_width", "candidates_per_step", "dedup"];
        let of_both = ["max_steps", "stop_token", "temperature_switch"];
        for (algorithm, expected) in [
            (BeamSearch, [&["wait_rounds"][..], &of_particles].concat()),
            (ParticleFiltering, [&["wait_rounds"][..], &of_beams].concat()),
            (BestOfN, [&["wait_rounds"][..], &of_both, &of_beams, &of_particles].concat()),
        ] {
            assert_eq!(warned(&all, algorithm, VoteWeight::None), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn the_rule_that_an_algorithm_has_anyway_may_be_named() {
        let settings = RunSettings {
            algorithm: AlgorithmName::BetaSelfConsistency,
            stop_rule: StopRule::Beta,
            ..RunSettings::default()
        };
        assert!(Named::of(|field| field == "stop_rule").without_effect(&settings).is_empty());
    }
}
