//! The `tts_*` family: the words of an earlier test-time scaling service for settings of a run.
//!
//! Each field is another name of a field of ours and is put in its place; where a request names both and they
//! differ, ours wins and a warning says so. `tts_strategy` brings the family's own defaults with it. Without it
//! the fields that are named count, and everything else is as configured.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::config::SettingsError;
use crate::config::fields;
use crate::config::run::{Aggregation, AlgorithmName, RewardName, RunSettings};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::scorers::StepConfidence;

/// Every field of the family.
pub const NAMES: [&str; 10] = [
    "num_paths",
    "tts_beam_size",
    "tts_candidates_per_step",
    "tts_max_steps",
    "tts_num_trajectories",
    "tts_score_aggregation",
    "tts_scorer",
    "tts_strategy",
    "tts_verbose",
    "tts_window_size",
];

/// Settings of searches step by step, the name of ours, and the searches that use it. The service's clients send them
/// whatever the strategy is.
const OF_SEARCHES: [(&str, &str, &[AlgorithmName]); 3] = [
    ("tts_beam_size", "beam_width", &[AlgorithmName::BeamSearch]),
    ("tts_candidates_per_step", "candidates_per_step", &[AlgorithmName::BeamSearch]),
    ("tts_max_steps", "max_steps", &[AlgorithmName::BeamSearch, AlgorithmName::ParticleFiltering]),
];

/// Candidates of self-consistency, and of best-of-N and particle filtering, where a strategy is named and no budget.
const NUM_PATHS: usize = 5;
const NUM_TRAJECTORIES: usize = 8;

/// What a beam search of a named strategy is where nothing is said.
const BEAM_SIZE: usize = 4;
const CANDIDATES_PER_STEP: usize = 4;
const MAX_STEPS: usize = 100;

/// What a request said in these words, beside the settings that were put in place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tts {
    /// `tts_strategy`, as the client wrote it.
    pub strategy: Option<String>,
    /// Whether the full metadata is wanted.
    pub verbose: bool,
    pub warnings: Vec<String>,
    /// What was put in the place of one of ours: the name that was written, and ours.
    pub placed: Vec<(&'static str, &'static str)>,
    /// Which of our fields has made the budget of a beam search, where none is named.
    pub budget_of: Option<&'static str>,
}

impl Tts {
    /// Takes the family out of the fields of a request and puts what it says among them under our names. `None`
    /// where no field of it is there.
    ///
    /// # Errors
    ///
    /// A value that a field does not take, by the name that the client wrote.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        if !NAMES.iter().any(|name| fields.contains_key(*name)) {
            return Ok(None);
        }
        let verbose = match remove(fields, "tts_verbose")? {
            None => false,
            Some(Value::Bool(verbose)) => verbose,
            Some(_) => return Err(ApiError::invalid_value("tts_verbose", "`tts_verbose` must be true or false")),
        };
        let strategy = remove(fields, "tts_strategy")?;
        let named = strategy.as_ref().and_then(Value::as_str).map(str::to_owned);
        let mut tts = Self { strategy: named, verbose, ..Self::default() };
        tts.put(fields, "tts_strategy", strategy, "alg", |param, value| {
            AlgorithmName::parse(param, value).map(AlgorithmName::as_str)
        })?;
        tts.put_budget(fields)?;
        let scorer = remove(fields, "tts_scorer")?;
        tts.put(fields, "tts_scorer", scorer, "rm_name", |param, value| {
            RewardName::parse(param, value).map(RewardName::as_str)
        })?;
        let aggregation = remove(fields, "tts_score_aggregation")?;
        tts.put(fields, "tts_score_aggregation", aggregation, "rm_agg_method", |param, value| {
            Aggregation::parse(param, value).map(Aggregation::as_str)
        })?;
        let window = remove(fields, "tts_window_size")?;
        tts.put(fields, "tts_window_size", window, "scoring_window", whole_number("scoring_window"))?;
        for (name, ours, _) in OF_SEARCHES {
            let value = remove(fields, name)?;
            tts.put(fields, name, value, ours, whole_number(ours))?;
        }
        Ok(Some(tts))
    }

    /// Whether one of our fields of searches has its value from the family, and not under our name.
    pub fn has_put(&self, ours: &str) -> bool {
        OF_SEARCHES.iter().any(|(_, known, _)| *known == ours) && self.placed.iter().any(|(_, known)| *known == ours)
    }

    /// What to warn of where the run is by this algorithm.
    pub fn without_effect(&self, algorithm: AlgorithmName) -> Option<String> {
        let idle = OF_SEARCHES.iter().filter(|(_, ours, users)| self.has_put(ours) && !users.contains(&algorithm));
        let idle: Vec<String> = idle.map(|(name, ..)| format!("`{name}`")).collect();
        let verb = if idle.len() == 1 { "has" } else { "have" };
        (!idle.is_empty()).then(|| format!("{} {verb} no effect: only a search step by step uses it", idle.join(", ")))
    }

    /// Puts the defaults that come with a strategy where the request names nothing itself. Also says of one that is another
    /// than usual.
    ///
    /// # Errors
    ///
    /// A value that a field does not take.
    pub fn put_defaults(
        &mut self,
        overrides: &mut Fields,
        configured: &RunSettings,
    ) -> Result<Option<String>, ApiError> {
        if self.strategy.is_none() {
            return Ok(None);
        }
        let Some(algorithm) = overrides.get("alg") else { return Ok(None) };
        let algorithm = AlgorithmName::parse("alg", &value_of("alg", algorithm)?)?;
        let mut warning = None;
        match algorithm {
            AlgorithmName::SelfConsistency
            | AlgorithmName::AdaptiveSelfConsistency
            | AlgorithmName::BetaSelfConsistency => put_default(overrides, "budget", &NUM_PATHS),
            AlgorithmName::BestOfN | AlgorithmName::ParticleFiltering => {
                put_default(overrides, "budget", &NUM_TRAJECTORIES);
            }
            AlgorithmName::BeamSearch => warning = self.put_beams(overrides)?,
            AlgorithmName::MixtureOfN | AlgorithmName::Wait | AlgorithmName::None => {}
        }
        let is_search = algorithm.is_search();
        if is_search {
            put_default(overrides, "max_steps", &MAX_STEPS);
        }
        // A scorer that the operator has chosen stays where it fits, and with it the way in which its scores are read.
        let stays = if is_search { StepConfidence::of(configured).is_some() } else { configured.rm_name.is_some() };
        let scorer_is_ours = overrides.contains_key("rm_name") || !stays;
        if (algorithm == AlgorithmName::BestOfN || is_search) && scorer_is_ours {
            put_default(overrides, "rm_name", &RewardName::Entropy.as_str());
            put_default(overrides, "rm_agg_method", &Aggregation::Min.as_str());
        }
        Ok(warning)
    }

    /// Puts what makes a beam search of a budget that is named, or else the budget that width and continuations make. What
    /// is configured of these has no say, since each follows from the others.
    fn put_beams(&mut self, overrides: &mut Fields) -> Result<Option<String>, ApiError> {
        let width = count_of(overrides, "beam_width")?;
        let per_beam = count_of(overrides, "candidates_per_step")?;
        let Some(budget) = count_of(overrides, "budget")? else {
            let ours = if width.is_none() && per_beam.is_some() { "candidates_per_step" } else { "beam_width" };
            self.budget_of = Some(ours);
            let (width, per_beam) = (width.unwrap_or(BEAM_SIZE), per_beam.unwrap_or(CANDIDATES_PER_STEP));
            put_default(overrides, "beam_width", &width);
            put_default(overrides, "candidates_per_step", &per_beam);
            put_default(overrides, "budget", &width.saturating_mul(per_beam));
            return Ok(None);
        };
        let chosen = width.unwrap_or_else(|| match per_beam {
            Some(per_beam) if budget.is_multiple_of(per_beam) => budget / per_beam,
            _ => (1..=BEAM_SIZE).rev().find(|width| budget.is_multiple_of(*width)).unwrap_or(1),
        });
        put_default(overrides, "beam_width", &chosen);
        put_default(overrides, "candidates_per_step", &(budget / chosen).max(1));
        let is_unusual = width.is_none() && chosen != BEAM_SIZE;
        Ok(is_unusual.then(|| {
            format!("`beam_width` is {chosen} and not the {BEAM_SIZE} of `tts_strategy`, so that it divides a `budget` of {budget}")
        }))
    }

    /// The name under which the client wrote what made the value of one of our fields, where that is another.
    pub fn written_name(&self, ours: &str) -> Option<&'static str> {
        let put = |ours: &str| self.placed.iter().find(|(_, known)| *known == ours).map(|(written, _)| *written);
        let made_of = self.budget_of.filter(|_| ours == "budget");
        put(ours).or_else(|| made_of.map(|made_of| put(made_of).unwrap_or(made_of)))
    }

    /// Puts a value, where there is one, in the place of our field, unless the request names that one too. `read`
    /// checks a value and says it in such a way that equal ones are said alike.
    fn put<T: PartialEq>(
        &mut self,
        fields: &mut Fields,
        name: &'static str,
        value: Option<Value>,
        ours: &'static str,
        read: impl Fn(&str, &Value) -> Result<T, SettingsError>,
    ) -> Result<(), ApiError> {
        let Some(value) = value else { return Ok(()) };
        let said = read(name, &value)?;
        match fields.get(ours) {
            None => {
                fields.insert(ours.to_owned(), raw(&value));
                self.placed.push((name, ours));
            }
            Some(other) => {
                if read(ours, &value_of(ours, other)?)? != said {
                    self.warnings.push(format!("`{name}` has no effect beside a different `{ours}`"));
                }
            }
        }
        Ok(())
    }

    /// Both names of the budget may be there, since clients send what their strategy does not use: then that of
    /// the strategy counts.
    fn put_budget(&mut self, fields: &mut Fields) -> Result<(), ApiError> {
        let algorithm = fields.get("alg").map(|algorithm| value_of("alg", algorithm)).transpose()?;
        let algorithm = algorithm.map(|algorithm| AlgorithmName::parse("alg", &algorithm)).transpose()?;
        let mut names = ["num_paths", "tts_num_trajectories"];
        if matches!(algorithm, Some(AlgorithmName::BestOfN | AlgorithmName::ParticleFiltering)) {
            names.reverse();
        }
        if algorithm == Some(AlgorithmName::BeamSearch) && self.strategy.is_some() {
            return self.set_aside(fields, names);
        }
        let [own, other] = names;
        let values = [remove(fields, own)?, remove(fields, other)?];
        match values {
            [Some(own_value), Some(other_value)] => {
                let read = whole_number("budget");
                if read(own, &own_value)? != read(other, &other_value)? {
                    self.warnings.push(format!("`{other}` has no effect beside `{own}`"));
                }
                self.put(fields, own, Some(own_value), "budget", read)
            }
            [Some(value), None] => self.put(fields, own, Some(value), "budget", whole_number("budget")),
            [None, value] => self.put(fields, other, value, "budget", whole_number("budget")),
        }
    }

    /// The strategy counts the continuations of each beam, and not the paths.
    fn set_aside(&mut self, fields: &mut Fields, names: [&str; 2]) -> Result<(), ApiError> {
        for name in names {
            if let Some(value) = remove(fields, name)? {
                whole_number("budget")(name, &value)?;
                self.warnings.push(format!(
                    "`{name}` has no effect: the budget of a beam search is `tts_beam_size` times `tts_candidates_per_step`"
                ));
            }
        }
        Ok(())
    }
}

fn put_default(overrides: &mut Fields, name: &str, value: &impl Serialize) {
    overrides.entry(name.to_owned()).or_insert_with(|| raw(value));
}

/// One of our fields that count something, where it is named.
fn count_of(fields: &Fields, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let count = whole_number(name)(name, &value_of(name, value)?)?;
    Ok(Some(usize::try_from(count).unwrap_or(1)))
}

/// Reads a whole number in the range of one of our fields.
fn whole_number(ours: &str) -> impl Fn(&str, &Value) -> Result<i64, SettingsError> {
    let field = fields::find(ours).expect("it is a field");
    move |param, value| field.integer(param, value)
}

fn remove(fields: &mut Fields, name: &str) -> Result<Option<Value>, ApiError> {
    fields.remove(name).map(|raw| value_of(name, &raw)).transpose()
}

fn value_of(name: &str, raw: &serde_json::value::RawValue) -> Result<Value, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| ApiError::invalid_value(name, format!("`{name}` is not valid JSON")))
}

fn raw(value: &impl Serialize) -> Box<serde_json::value::RawValue> {
    to_raw_value(value).expect("words and numbers serialise")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(request: &Value) -> Fields {
        serde_json::from_value(request.clone()).unwrap()
    }

    fn shown(fields: &Fields) -> Value {
        serde_json::to_value(fields).unwrap()
    }

    #[test]
    fn each_field_is_put_in_the_place_of_ours() {
        for (said, meant) in [
            (json!({"tts_strategy": "self_consistency"}), json!({"alg": "self_consistency"})),
            (json!({"tts_strategy": "offline_bon"}), json!({"alg": "offline_bon"})),
            (json!({"num_paths": 3}), json!({"budget": 3})),
            (json!({"tts_num_trajectories": 4}), json!({"budget": 4})),
            (json!({"tts_scorer": "sequence_prob"}), json!({"rm_name": "sequence_prob"})),
            (json!({"tts_score_aggregation": "mean"}), json!({"rm_agg_method": "mean"})),
            (json!({"tts_window_size": 2}), json!({"scoring_window": 2})),
            (json!({"tts_verbose": true}), json!({})),
            (json!({"tts_beam_size": 2, "tts_max_steps": 9}), json!({"beam_width": 2, "max_steps": 9})),
            (json!({"tts_candidates_per_step": 3}), json!({"candidates_per_step": 3})),
            // Saying the same twice is no conflict, however it is spelt.
            (json!({"num_paths": 3, "budget": 3.0}), json!({"budget": 3.0})),
            (json!({"tts_strategy": "offline-bon", "alg": "best_of_n"}), json!({"alg": "best_of_n"})),
            (json!({"tts_score_aggregation": "product", "rm_agg_method": "prod"}), json!({"rm_agg_method": "prod"})),
        ] {
            let mut fields = fields(&said);
            let tts = Tts::take(&mut fields).unwrap().expect("the family is there");
            assert_eq!(shown(&fields), meant, "{said}");
            assert_eq!(tts.warnings, [""; 0], "{said}");
        }
    }

    #[test]
    fn a_request_without_these_words_is_left_alone() {
        let request = json!({"budget": 3, "alg": "nonsense", "tts_voice": "alto"});
        let mut fields = fields(&request);
        assert_eq!(Tts::take(&mut fields).unwrap(), None);
        assert_eq!(shown(&fields), request);
    }

    #[test]
    fn what_the_client_wrote_is_kept_for_the_answer() {
        let mut fields = fields(&json!({"tts_strategy": "offline_bon", "tts_verbose": true}));
        let tts = Tts::take(&mut fields).unwrap().unwrap();
        assert_eq!((tts.strategy.as_deref(), tts.verbose), (Some("offline_bon"), true));
    }

    #[test]
    fn our_own_field_wins_over_a_different_one_and_a_warning_says_so() {
        for (said, meant, warned) in [
            (json!({"num_paths": 3, "budget": 4}), json!({"budget": 4}), "num_paths"),
            (json!({"tts_strategy": "offline_bon", "alg": "none"}), json!({"alg": "none"}), "tts_strategy"),
            (json!({"tts_scorer": "entropy", "rm_name": "llm-judge"}), json!({"rm_name": "llm-judge"}), "tts_scorer"),
            // Of two names of the budget that of the strategy counts.
            (json!({"num_paths": 3, "tts_num_trajectories": 4}), json!({"budget": 3}), "tts_num_trajectories"),
            (
                json!({"num_paths": 3, "tts_num_trajectories": 4, "tts_strategy": "offline_bon"}),
                json!({"alg": "offline_bon", "budget": 4}),
                "num_paths",
            ),
        ] {
            let mut fields = fields(&said);
            let tts = Tts::take(&mut fields).unwrap().unwrap();
            assert_eq!(shown(&fields), meant, "{said}");
            assert_eq!(tts.warnings.len(), 1, "{said}: {:?}", tts.warnings);
            assert!(tts.warnings[0].starts_with(&format!("`{warned}` has no effect")), "{said}: {:?}", tts.warnings);
        }
    }

    #[test]
    fn what_only_searches_use_is_taken_and_said_to_do_nothing() {
        let said = json!({"tts_beam_size": 4, "tts_candidates_per_step": 4, "tts_max_steps": 100});
        let tts = Tts::take(&mut fields(&said)).unwrap().unwrap();
        for (algorithm, warned) in [
            (AlgorithmName::BeamSearch, None),
            (AlgorithmName::ParticleFiltering, Some("`tts_beam_size`, `tts_candidates_per_step` have")),
            (AlgorithmName::BestOfN, Some("`tts_beam_size`, `tts_candidates_per_step`, `tts_max_steps` have")),
        ] {
            let expected = warned.map(|names| format!("{names} no effect: only a search step by step uses it"));
            assert_eq!(tts.without_effect(algorithm), expected, "{algorithm:?}");
        }
        let ours = json!({"tts_beam_size": 4, "beam_width": 2});
        let tts = Tts::take(&mut fields(&ours)).unwrap().unwrap();
        assert_eq!((tts.warnings.len(), tts.has_put("beam_width")), (1, false));
    }

    #[test]
    fn a_value_that_a_field_does_not_take_is_refused_by_the_name_that_was_written() {
        for (said, param, code) in [
            (json!({"tts_strategy": "online_bon"}), "tts_strategy", "not_supported_yet"),
            (json!({"tts_strategy": "particle_gibbs"}), "tts_strategy", "not_supported_yet"),
            (json!({"tts_strategy": "beam_search", "num_paths": 0}), "num_paths", "invalid_value"),
            (json!({"tts_strategy": "self_consistent"}), "tts_strategy", "invalid_value"),
            (json!({"tts_strategy": 1}), "tts_strategy", "invalid_value"),
            (json!({"num_paths": 0}), "num_paths", "invalid_value"),
            (json!({"num_paths": "5"}), "num_paths", "invalid_value"),
            (json!({"tts_num_trajectories": 1001}), "tts_num_trajectories", "invalid_value"),
            (json!({"num_paths": 4, "tts_num_trajectories": 0}), "tts_num_trajectories", "invalid_value"),
            (json!({"tts_scorer": "prm"}), "tts_scorer", "not_supported_yet"),
            (json!({"tts_scorer": "entropie"}), "tts_scorer", "invalid_value"),
            (json!({"tts_score_aggregation": "median"}), "tts_score_aggregation", "invalid_value"),
            (json!({"tts_window_size": 0}), "tts_window_size", "invalid_value"),
            (json!({"tts_beam_size": 0}), "tts_beam_size", "invalid_value"),
            (json!({"tts_candidates_per_step": 1.5}), "tts_candidates_per_step", "invalid_value"),
            (json!({"tts_max_steps": "100"}), "tts_max_steps", "invalid_value"),
            (json!({"tts_verbose": "yes"}), "tts_verbose", "invalid_value"),
            (json!({"num_paths": 4, "alg": "nonsense"}), "alg", "invalid_value"),
            (json!({"num_paths": 4, "budget": 0}), "budget", "invalid_value"),
        ] {
            let error = Tts::take(&mut fields(&said)).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{said}: {}", error.message);
            assert!(error.message.contains(param), "{}", error.message);
        }
    }

    #[test]
    fn a_strategy_brings_its_defaults_and_a_lone_field_none() {
        let judged = RunSettings { rm_name: Some(RewardName::LlmJudge), ..RunSettings::default() };
        let plain = RunSettings::default();
        for (said, configured, meant) in [
            (json!({"tts_strategy": "self_consistency"}), &plain, json!({"alg": "self_consistency", "budget": 5})),
            (
                json!({"tts_strategy": "offline_bon"}),
                &plain,
                json!({"alg": "offline_bon", "budget": 8, "rm_name": "entropy", "rm_agg_method": "min"}),
            ),
            (
                json!({"tts_strategy": "offline_bon", "tts_scorer": "perplexity", "rm_agg_method": "max", "budget": 2}),
                &judged,
                json!({"alg": "offline_bon", "budget": 2, "rm_name": "perplexity", "rm_agg_method": "max"}),
            ),
            (json!({"tts_strategy": "offline_bon"}), &judged, json!({"alg": "offline_bon", "budget": 8})),
            (
                json!({"tts_strategy": "beam_search", "num_paths": 5, "tts_num_trajectories": 8}),
                &plain,
                json!({
                    "alg": "beam_search", "budget": 16, "beam_width": 4, "candidates_per_step": 4, "max_steps": 100, "rm_name": "entropy",
                    "rm_agg_method": "min"
                }),
            ),
            (
                json!({"tts_strategy": "beam_search", "tts_beam_size": 2, "tts_candidates_per_step": 3}),
                &plain,
                json!({
                    "alg": "beam_search", "budget": 6, "beam_width": 2, "candidates_per_step": 3, "max_steps": 100,
                    "rm_name": "entropy", "rm_agg_method": "min"
                }),
            ),
            (
                json!({"tts_strategy": "beam_search", "budget": 8, "tts_scorer": "perplexity", "rm_agg_method": "last"}),
                &plain,
                json!({
                    "alg": "beam_search", "budget": 8, "beam_width": 4, "candidates_per_step": 2, "max_steps": 100,
                    "rm_name": "perplexity", "rm_agg_method": "last"
                }),
            ),
            (
                json!({"tts_strategy": "particle_filtering", "tts_num_trajectories": 6, "tts_max_steps": 9}),
                &plain,
                json!({
                    "alg": "particle_filtering", "budget": 6, "max_steps": 9, "rm_name": "entropy",
                    "rm_agg_method": "min"
                }),
            ),
            (json!({"alg": "beam-search", "num_paths": 4}), &plain, json!({"alg": "beam-search", "budget": 4})),
            (json!({"tts_strategy": "none"}), &plain, json!({"alg": "none"})),
            (json!({"tts_scorer": "entropy"}), &plain, json!({"rm_name": "entropy"})),
            (json!({"alg": "offline_bon", "num_paths": 3}), &plain, json!({"alg": "offline_bon", "budget": 3})),
        ] {
            let mut fields = fields(&said);
            let mut tts = Tts::take(&mut fields).unwrap().unwrap();
            assert_eq!(tts.put_defaults(&mut fields, configured).unwrap(), None);
            assert_eq!(shown(&fields), meant, "{said}");
        }
    }

    #[test]
    fn a_configured_scorer_stays_only_where_it_can_score() {
        for (configured, strategy, expected) in [
            (RewardName::LlmJudge, "offline_bon", None),
            (RewardName::LlmJudge, "beam_search", Some("entropy")),
            (RewardName::SelfCertainty, "particle_filtering", Some("entropy")),
            (RewardName::TopKConfidence, "beam_search", Some("entropy")),
            (RewardName::Perplexity, "beam_search", None),
        ] {
            let mut fields = fields(&json!({"tts_strategy": strategy}));
            let mut tts = Tts::take(&mut fields).unwrap().unwrap();
            let configured = RunSettings { rm_name: Some(configured), ..RunSettings::default() };
            tts.put_defaults(&mut fields, &configured).unwrap();
            assert_eq!(shown(&fields)["rm_name"].as_str(), expected, "{configured:?} {strategy}");
            assert_eq!(shown(&fields)["rm_agg_method"].as_str(), expected.map(|_| "min"), "{configured:?} {strategy}");
        }
    }

    #[test]
    fn a_named_budget_wins_over_the_usual_width_of_a_beam_search() {
        for (said, width, per_beam, warned) in [
            (json!({"budget": 8}), 4, 2, false),
            (json!({"budget": 6}), 3, 2, true),
            (json!({"budget": 7}), 1, 7, true),
            (json!({"budget": 1}), 1, 1, true),
            (json!({"budget": 16, "tts_candidates_per_step": 2}), 8, 2, true),
            (json!({"budget": 16, "tts_candidates_per_step": 4}), 4, 4, false),
            (json!({"budget": 6, "tts_beam_size": 2}), 2, 3, false),
        ] {
            let mut fields = fields(&said);
            fields.insert("tts_strategy".to_owned(), raw(&"beam_search"));
            let mut tts = Tts::take(&mut fields).unwrap().unwrap();
            let warning = tts.put_defaults(&mut fields, &RunSettings::default()).unwrap();
            let shown = shown(&fields);
            let made = (&shown["beam_width"], &shown["candidates_per_step"], &shown["budget"]);
            assert_eq!(made, (&json!(width), &json!(per_beam), &said["budget"]), "{said}");
            assert_eq!(warning.is_some_and(|warning| warning.starts_with("`beam_width` is")), warned, "{said}");
        }
    }

    #[test]
    fn what_made_a_value_is_known_by_the_name_that_was_written() {
        for (said, ours, written) in [
            (json!({"tts_beam_size": 500}), "budget", Some("tts_beam_size")),
            (json!({"beam_width": 500}), "budget", Some("beam_width")),
            (json!({"tts_candidates_per_step": 500}), "budget", Some("tts_candidates_per_step")),
            (json!({"tts_candidates_per_step": 3}), "candidates_per_step", Some("tts_candidates_per_step")),
            (json!({"budget": 6, "tts_beam_size": 4}), "budget", None),
            (json!({"budget": 6, "tts_beam_size": 4}), "beam_width", Some("tts_beam_size")),
            (json!({"beam_width": 4}), "beam_width", None),
            (json!({"alg": "best-of-n", "tts_num_trajectories": 4}), "budget", Some("tts_num_trajectories")),
        ] {
            let mut fields = fields(&said);
            fields.insert("tts_strategy".to_owned(), raw(&"beam_search"));
            let mut tts = Tts::take(&mut fields).unwrap().unwrap();
            tts.put_defaults(&mut fields, &RunSettings::default()).unwrap();
            assert_eq!(tts.written_name(ours), written, "{said}");
        }
    }
}
