//! Fields that a request names for its run although they cannot have an effect on it.
//!
//! The same fields in the configuration are defaults for other requests, and nothing is said of them.

use crate::config::run::{AlgorithmName, RunSettings, VoteWeight};

use super::plan::stop_rule;

/// Which of the fields that some runs do not read a request names itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// In the body or the path.
    scorer: bool,
    wait_rounds: bool,
    stop_rule: bool,
}

impl Named {
    /// Asks of each field whether the request names it.
    pub fn of(is_named: impl Fn(&str) -> bool) -> Self {
        Self { scorer: is_named("rm_name"), wait_rounds: is_named("wait_rounds"), stop_rule: is_named("stop_rule") }
    }

    /// What to warn of when the request has these settings.
    pub fn without_effect(self, settings: &RunSettings) -> Vec<String> {
        use AlgorithmName::{AdaptiveSelfConsistency, BestOfN, BetaSelfConsistency, SelfConsistency, Wait};
        let algorithm = settings.algorithm;
        let name = algorithm.as_str();
        let votes = matches!(algorithm, SelfConsistency | AdaptiveSelfConsistency | BetaSelfConsistency);
        let mut warnings = Vec::new();
        let is_scored = algorithm == BestOfN || votes && settings.vote_weight == VoteWeight::Score;
        if self.scorer && !is_scored {
            let unless = if votes { " unless `vote_weight` is `score`" } else { "" };
            warnings.push(format!("`rm_name` has no effect: `alg` `{name}` scores nothing{unless}"));
        }
        if self.wait_rounds && algorithm != Wait {
            warnings.push(format!("`wait_rounds` has no effect with `alg` `{name}`, only with `wait`"));
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
    use crate::config::run::StopRule;

    const ALL: Named = Named { scorer: true, wait_rounds: true, stop_rule: true };

    fn warned(named: Named, algorithm: AlgorithmName, vote_weight: VoteWeight) -> Vec<String> {
        let settings = RunSettings { algorithm, vote_weight, stop_rule: StopRule::Window, ..RunSettings::default() };
        let warnings = named.without_effect(&settings);
        warnings.iter().map(|warning| warning.split('`').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn what_a_run_does_not_read_is_warned_of_where_the_request_names_it() {
        use AlgorithmName::{AdaptiveSelfConsistency, BestOfN, BetaSelfConsistency, MixtureOfN, SelfConsistency, Wait};
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
            assert_eq!(warned(ALL, algorithm, vote_weight), expected, "{algorithm:?}");
            assert!(warned(Named::default(), algorithm, vote_weight).is_empty(), "the configuration's are defaults");
        }
    }

    #[test]
    fn the_rule_that_an_algorithm_has_anyway_may_be_named() {
        let settings = RunSettings {
            algorithm: AlgorithmName::BetaSelfConsistency,
            stop_rule: StopRule::Beta,
            ..RunSettings::default()
        };
        assert!(Named { stop_rule: true, ..Named::default() }.without_effect(&settings).is_empty());
    }
}
