//! The settings of one run: which algorithm, how much of it, how candidates vote and when to stop.
//!
//! `/configure` sets them, a chat request may override each of them for itself.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::completion::{MaxTokens, MaxTokensName};

use super::field::{self, SettingsError};
use super::fields::{self, JUDGE_CRITERIA, Scope};

pub use super::choices::{
    Aggregation, AlgorithmName, FinalSelect, JudgeFallback, JudgeMode, ParticleWeights, Resample, Resampling,
    RewardName, Select, StopRule, ToolVote, VoteOn, VoteWeight,
};
pub use super::limits::Limits;
pub use super::search::{SearchSettings, TemperatureSwitch};

/// The settings that a configuration gives and a request may override.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    pub algorithm: AlgorithmName,
    /// Candidates asked for, 1 to 1000.
    pub budget: usize,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    /// The limit, and the name under which providers get it.
    pub max_tokens: Option<MaxTokens>,
    pub seed: Option<i64>,
    pub stop: Vec<String>,
    /// Used instead of 0 when a request asks for temperature 0 and more than one candidate.
    pub diversity_temperature: Option<f64>,
    pub tool_vote: ToolVote,
    /// Arguments left out of the tool vote: a top-level name, a path `meta.ts`, or `**.ts` for any depth.
    pub exclude_args: Vec<String>,
    pub regex_patterns: Vec<String>,
    pub vote_on: VoteOn,
    pub vote_weight: VoteWeight,
    /// T of the weight exp(c/T), above 0.
    pub weight_temperature: f64,
    pub stop_rule: StopRule,
    /// Probability at which [`StopRule::Beta`] stops, 0.5 to 1.
    pub confidence: f64,
    /// Candidates of one window of [`StopRule::Window`], at least 1.
    pub window: usize,
    /// Share of the votes at which [`StopRule::Threshold`] stops, above 0 and up to 1.
    pub threshold: f64,
    pub wave: Wave,
    pub select: Select,
    /// What scores candidates; `None` where nothing was named.
    pub rm_name: Option<RewardName>,
    pub rm_agg_method: Aggregation,
    /// Steps, counted from the last, that are scored; `None` for all.
    pub scoring_window: Option<usize>,
    /// What ends a step; `None` for a blank line.
    pub step_token: Option<String>,
    /// Tokens at which a step ends at the latest.
    pub tokens_per_step: Option<usize>,
    pub judge: JudgeSettings,
    /// Rounds of [`AlgorithmName::Wait`] before the last, 0 to 20.
    pub wait_rounds: usize,
    pub search: SearchSettings,
    pub limits: Limits,
}

/// How the judge judges; who it is belongs to the configuration alone.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeSettings {
    /// A name of [`fields::JUDGE_CRITERIA`], or free text.
    pub criterion: String,
    pub mode: JudgeMode,
    /// Candidates that a groupwise judge picks, 1 to 8.
    pub top_n: usize,
    pub temperature: f64,
    pub max_tokens: u32,
    pub fallback: JudgeFallback,
    /// Whether the log tells of each judgement's scores.
    pub logging: bool,
}

/// How many candidates are started at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// What suits the stop rule.
    Auto,
    /// The first alone until its first token, so that the provider's prompt cache is warm, then the rest.
    Prime,
    /// This many at a time, 1 to 1000.
    Of(usize),
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            algorithm: AlgorithmName::SelfConsistency,
            budget: 8,
            temperature: None,
            top_p: None,
            top_k: None,
            max_tokens: None,
            seed: None,
            stop: Vec::new(),
            diversity_temperature: None,
            tool_vote: ToolVote::ToolHierarchical,
            exclude_args: Vec::new(),
            regex_patterns: Vec::new(),
            vote_on: VoteOn::Auto,
            vote_weight: VoteWeight::None,
            weight_temperature: 1.0,
            stop_rule: StopRule::Decided,
            confidence: 0.95,
            window: 5,
            threshold: 0.75,
            wave: Wave::Auto,
            select: Select::Argmax,
            rm_name: None,
            rm_agg_method: Aggregation::Last,
            scoring_window: None,
            step_token: None,
            tokens_per_step: None,
            judge: JudgeSettings::default(),
            wait_rounds: 1,
            search: SearchSettings::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for JudgeSettings {
    fn default() -> Self {
        Self {
            criterion: "overall_quality".to_owned(),
            mode: JudgeMode::Groupwise,
            top_n: 1,
            temperature: 0.0,
            max_tokens: 4096,
            fallback: JudgeFallback::Vote,
            logging: true,
        }
    }
}

/// What a field of a chat request is to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunField {
    /// A setting of itsd's own, taken by [`RunSettings::overridden_by`] and never sent upstream.
    Known,
    /// A setting of itsd's own that this version does not have; anything but null is refused.
    Later,
    /// Not itsd's: a parameter of OpenAI's, or one that only the upstream knows.
    No,
}

/// Tells itsd's own per-run fields of a chat request from those that pass through.
///
/// OpenAI's sampling parameters are [`RunField::No`], because the request's own win whatever the run is.
pub fn is_run_field(name: &str) -> RunField {
    if fields::find(name).is_some_and(|field| field.scope == Scope::Run) {
        RunField::Known
    } else if fields::LATER.contains(&name) {
        RunField::Later
    } else {
        RunField::No
    }
}

/// More patterns than this are a mistake, and each one costs time on every candidate.
const MAX_REGEX_PATTERNS: usize = 32;
const MAX_REGEX_PATTERN_BYTES: usize = 4096;

impl RunSettings {
    /// These settings with those that a request names put over them. A null changes nothing.
    ///
    /// # Errors
    ///
    /// When a value does not fit its field, and for fields other than those that [`is_run_field`] knows.
    pub fn overridden_by(&self, fields: &BTreeMap<String, Box<RawValue>>) -> Result<Self, SettingsError> {
        let mut settings = self.clone();
        let mut named = BTreeMap::new();
        for (name, raw) in fields {
            let value: Value = serde_json::from_str(raw.get())
                .map_err(|_| SettingsError::invalid(name.as_str(), format!("`{name}` is not valid JSON")))?;
            if value.is_null() {
                continue;
            }
            named.insert(name.as_str(), value);
        }
        settings.apply(&named)?;
        Ok(settings)
    }

    /// Whether candidates are scored, so that `rm_name` must say by what.
    pub fn is_scored(&self) -> bool {
        match self.algorithm {
            AlgorithmName::BestOfN | AlgorithmName::BeamSearch | AlgorithmName::ParticleFiltering => true,
            AlgorithmName::SelfConsistency
            | AlgorithmName::AdaptiveSelfConsistency
            | AlgorithmName::BetaSelfConsistency => self.vote_weight == VoteWeight::Score,
            AlgorithmName::MixtureOfN | AlgorithmName::Wait | AlgorithmName::None => false,
        }
    }

    /// Whether a model is asked to judge the candidates.
    pub fn is_judged(&self) -> bool {
        self.rm_name == Some(RewardName::LlmJudge) && self.is_scored()
    }

    /// Sets the fields that are named. Whoever calls has dropped nulls, and names that are no field of a run or of
    /// sampling.
    pub(super) fn apply(&mut self, named: &BTreeMap<&str, Value>) -> Result<(), SettingsError> {
        for (alias, value) in named {
            let name = fields::find(alias).map_or(*alias, |field| field.name);
            if name != *alias && named.get(name).is_some_and(|other| other != value) {
                return Err(SettingsError::invalid(
                    *alias,
                    format!("`{alias}` and `{name}` are one setting and are given different values"),
                ));
            }
        }
        if named.contains_key("max_tokens") && named.contains_key("max_completion_tokens") {
            return Err(SettingsError::invalid(
                "max_tokens",
                "`max_tokens` and `max_completion_tokens` are one setting; give the one that the provider takes",
            ));
        }
        for (name, value) in named {
            self.set(name, value)?;
        }
        if self.vote_on == VoteOn::Regex && self.regex_patterns.is_empty() {
            return Err(SettingsError::missing("regex_patterns", "`vote_on` `regex` needs `regex_patterns`"));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), SettingsError> {
        let size = |value| fields::integer(name, value).map(|number| number as usize);
        match name {
            "alg" => self.algorithm = AlgorithmName::parse(name, value)?,
            "budget" => self.budget = size(value)?,
            "temperature" => self.temperature = Some(fields::number(name, value)?),
            "top_p" => self.top_p = Some(fields::number(name, value)?),
            "top_k" => self.top_k = Some(fields::integer(name, value)? as u32),
            "max_tokens" => self.max_tokens = Some(max_tokens(value, MaxTokensName::MaxTokens)?),
            "max_completion_tokens" => self.max_tokens = Some(max_tokens(value, MaxTokensName::MaxCompletionTokens)?),
            "seed" => self.seed = Some(fields::integer(name, value)?),
            "stop" => self.stop = stop_texts(value)?,
            "diversity_temperature" => self.diversity_temperature = Some(fields::number(name, value)?),
            "tool_vote" => self.tool_vote = ToolVote::parse(name, value)?,
            "exclude_args" | "exclude_tool_args" => self.exclude_args = field::texts(name, value)?,
            "regex_patterns" => self.regex_patterns = regex_patterns(value)?,
            "vote_on" => self.vote_on = VoteOn::parse(name, value)?,
            "vote_weight" => self.vote_weight = VoteWeight::parse(name, value)?,
            "weight_temperature" => self.weight_temperature = fields::number(name, value)?,
            "stop_rule" => self.stop_rule = StopRule::parse(name, value)?,
            "confidence" => self.confidence = fields::number(name, value)?,
            "window" => self.window = size(value)?,
            "threshold" => self.threshold = fields::number(name, value)?,
            "wave" => self.wave = wave(value)?,
            "select" => self.select = Select::parse(name, value)?,
            "rm_name" => self.rm_name = Some(reward_name(value)?),
            "rm_agg_method" => self.rm_agg_method = Aggregation::parse(name, value)?,
            "scoring_window" => self.scoring_window = Some(size(value)?),
            "step_token" => self.step_token = Some(field::token(name, value)?),
            "tokens_per_step" => self.tokens_per_step = Some(size(value)?),
            "judge_criterion" => self.judge.criterion = judge_criterion(value)?,
            "judge_mode" => self.judge.mode = JudgeMode::parse(name, value)?,
            "judge_top_n" => self.judge.top_n = size(value)?,
            "judge_temperature" => self.judge.temperature = fields::number(name, value)?,
            "judge_max_tokens" => self.judge.max_tokens = fields::integer(name, value)? as u32,
            "judge_fallback" => self.judge.fallback = JudgeFallback::parse(name, value)?,
            "enable_judge_logging" => self.judge.logging = field::boolean(name, value)?,
            "wait_rounds" => self.wait_rounds = size(value)?,
            "limits" => self.limits = self.limits.tightened_by(Limits::parse(value)?),
            _ if self.search.set(name, value)? => {}
            _ => return Err(SettingsError::unknown(name, fields::names(Scope::Run))),
        }
        Ok(())
    }
}

pub(super) fn not_supported_yet(name: &str) -> SettingsError {
    SettingsError::later(name, format!("`{name}` is not supported yet by this version; leave it out or send null"))
}

fn max_tokens(value: &Value, name: MaxTokensName) -> Result<MaxTokens, SettingsError> {
    Ok(MaxTokens { tokens: fields::integer(name.as_str(), value)? as u32, name })
}

fn wave(value: &Value) -> Result<Wave, SettingsError> {
    match value.as_str() {
        Some("auto") => Ok(Wave::Auto),
        Some("prime") => Ok(Wave::Prime),
        Some(_) => Err(SettingsError::invalid("wave", "`wave` must be `auto`, `prime` or a whole number")),
        None => Ok(Wave::Of(fields::integer("wave", value)? as usize)),
    }
}

/// A reward model by its own name, path or address is of a later version.
fn reward_name(value: &Value) -> Result<RewardName, SettingsError> {
    if let Some(name) = value.as_str().filter(|name| name.contains(['/', '.'])) {
        let message = format!(
            "`rm_name` {name:?} would be a reward model, which is not supported yet by this version; it takes {}",
            RewardName::WORDS.join(", ")
        );
        return Err(SettingsError::later("rm_name", message));
    }
    RewardName::parse("rm_name", value)
}

fn judge_criterion(value: &Value) -> Result<String, SettingsError> {
    let text = field::text("judge_criterion", value)?;
    let text = text.trim();
    if text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    let words: Vec<(&'static str, &'static str)> = JUDGE_CRITERIA.iter().map(|word| (*word, *word)).collect();
    field::choice("judge_criterion", &Value::from(text), &words, &[]).map(str::to_owned)
}

fn stop_texts(value: &Value) -> Result<Vec<String>, SettingsError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(vec![text.clone()]),
        Value::String(_) => Err(SettingsError::invalid("stop", "`stop` must not be an empty string")),
        Value::Array(_) => field::texts("stop", value),
        other => Err(field::wrong_type("stop", "a string or a list of strings", other)),
    }
}

/// The patterns as text; they are compiled, and refused if they cannot be, where the vote is made of them.
fn regex_patterns(value: &Value) -> Result<Vec<String>, SettingsError> {
    let patterns = field::texts("regex_patterns", value)?;
    let refused = |message: String| Err(SettingsError::invalid("regex_patterns", message));
    if patterns.len() > MAX_REGEX_PATTERNS {
        return refused(format!(
            "`regex_patterns` takes at most {MAX_REGEX_PATTERNS} patterns, not {}",
            patterns.len()
        ));
    }
    for pattern in &patterns {
        if pattern.len() > MAX_REGEX_PATTERN_BYTES {
            return refused(format!("a pattern of `regex_patterns` is longer than {MAX_REGEX_PATTERN_BYTES} bytes"));
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::field::SettingsCode;

    fn over(request: Value) -> Result<RunSettings, SettingsError> {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_value(request).unwrap();
        RunSettings { budget: 4, ..RunSettings::default() }.overridden_by(&fields)
    }

    #[test]
    fn a_request_overrides_what_it_names_and_null_leaves_the_configuration() {
        let run = over(json!({
            "budget": 16, "alg": "none", "tool_vote": "tool-set", "exclude_tool_args": ["id"], "vote_on": "regex",
            "regex_patterns": ["(\\d+)"], "stop_rule": "none", "diversity_temperature": 0.7, "lookahead": null
        }))
        .unwrap();
        assert_eq!(run.budget, 16);
        assert_eq!(run.algorithm, AlgorithmName::None);
        assert_eq!(run.tool_vote, ToolVote::ToolSet);
        assert_eq!(run.exclude_args, ["id"]);
        assert_eq!(run.vote_on, VoteOn::Regex);
        assert_eq!(run.stop_rule, StopRule::None);
        assert_eq!(run.diversity_temperature, Some(0.7));

        let unchanged = over(json!({"budget": null, "alg": null, "tool_vote": null, "rm_name": null})).unwrap();
        assert_eq!(unchanged, RunSettings { budget: 4, ..RunSettings::default() });
    }

    #[test]
    fn every_field_of_a_run_is_read() {
        let run = over(json!({
            "vote_weight": "confidence", "weight_temperature": 0.5, "stop_rule": "window", "confidence": 0.9, "window": 3,
            "threshold": 0.6, "wave": 4, "select": "weighted", "rm_name": "llm-judge", "rm_agg_method": "prod",
            "scoring_window": 2, "step_token": "\n", "tokens_per_step": 64, "judge_criterion": "is it polite and short",
            "judge_mode": "pointwise", "judge_top_n": 2, "judge_temperature": 0.7, "judge_max_tokens": 2048,
            "judge_fallback": "first", "enable_judge_logging": false, "wait_rounds": 6,
            "limits": {"deadline_ms": 1500, "max_total_tokens": 10, "max_cost_usd": 0.5, "max_candidates": 3}
        }))
        .unwrap();
        assert_eq!((run.vote_weight, run.weight_temperature), (VoteWeight::Confidence, 0.5));
        assert_eq!((run.stop_rule, run.confidence, run.window, run.threshold), (StopRule::Window, 0.9, 3, 0.6));
        assert_eq!((run.wave, run.select, run.rm_name), (Wave::Of(4), Select::Weighted, Some(RewardName::LlmJudge)));
        assert_eq!((run.rm_agg_method, run.scoring_window), (Aggregation::Product, Some(2)));
        assert_eq!((run.step_token.as_deref(), run.tokens_per_step), (Some("\n"), Some(64)));
        let judge = JudgeSettings {
            criterion: "is it polite and short".to_owned(),
            mode: JudgeMode::Pointwise,
            top_n: 2,
            temperature: 0.7,
            max_tokens: 2048,
            fallback: JudgeFallback::First,
            logging: false,
        };
        assert_eq!((run.judge, run.wait_rounds), (judge, 6));
        let limits = Limits {
            deadline: Some(Duration::from_millis(1500)),
            max_total_tokens: Some(10),
            max_cost_usd: Some(0.5),
            max_candidates: Some(3),
        };
        assert_eq!(run.limits, limits);
    }

    #[test]
    fn a_request_tightens_limits_and_never_loosens_them() {
        let configured = Limits { max_candidates: Some(4), max_total_tokens: Some(100), ..Limits::default() };
        let settings = RunSettings { limits: configured, ..RunSettings::default() };
        let request = json!({"limits": {"max_candidates": 8, "max_total_tokens": 50, "deadline_ms": 10}});
        let limits = settings.overridden_by(&serde_json::from_value(request).unwrap()).unwrap().limits;
        assert_eq!((limits.max_candidates, limits.max_total_tokens), (Some(4), Some(50)));
        assert_eq!(limits.deadline, Some(Duration::from_millis(10)));
    }

    #[test]
    fn dashes_and_underscores_name_the_same_algorithm() {
        assert_eq!(over(json!({"alg": "self_consistency"})).unwrap().algorithm, AlgorithmName::SelfConsistency);
        assert_eq!(AlgorithmName::SelfConsistency.as_str(), "self-consistency");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        use SettingsCode::{InvalidValue, MissingField, NotSupportedYet, UnknownField};
        for (request, code, param) in [
            (json!({"budget": 0}), InvalidValue, "budget"),
            (json!({"budget": 1001}), InvalidValue, "budget"),
            (json!({"budget": "8"}), InvalidValue, "budget"),
            (json!({"budget": true}), InvalidValue, "budget"),
            (json!({"alg": "dvts"}), NotSupportedYet, "alg"),
            (json!({"alg": "online_bon"}), NotSupportedYet, "alg"),
            (json!({"alg": "self-consistent"}), InvalidValue, "alg"),
            (json!({"alg": 3}), InvalidValue, "alg"),
            (json!({"stop_rule": "gamma"}), InvalidValue, "stop_rule"),
            (json!({"confidence": 0.4}), InvalidValue, "confidence"),
            (json!({"window": 0}), InvalidValue, "window"),
            (json!({"threshold": 0}), InvalidValue, "threshold"),
            (json!({"wave": 0}), InvalidValue, "wave"),
            (json!({"wave": "all"}), InvalidValue, "wave"),
            (json!({"weight_temperature": 0}), InvalidValue, "weight_temperature"),
            (json!({"rm_name": "prm"}), NotSupportedYet, "rm_name"),
            (json!({"rm_name": "models/prm.gguf"}), NotSupportedYet, "rm_name"),
            (json!({"rm_name": "entropie"}), InvalidValue, "rm_name"),
            (json!({"judge_criterion": "overal_quality"}), InvalidValue, "judge_criterion"),
            (json!({"judge_top_n": 0}), InvalidValue, "judge_top_n"),
            (json!({"wait_rounds": 21}), InvalidValue, "wait_rounds"),
            (json!({"limits": {"deadline_ms": 0}}), InvalidValue, "limits.deadline_ms"),
            (json!({"limits": {"max_cost_usd": 0}}), InvalidValue, "limits.max_cost_usd"),
            (json!({"limits": {"deadline": 5}}), UnknownField, "limits.deadline"),
            (json!({"limits": 5}), InvalidValue, "limits"),
            (json!({"vote_on": "vibes"}), InvalidValue, "vote_on"),
            (json!({"vote_on": "regex"}), MissingField, "regex_patterns"),
            (json!({"regex_patterns": ["x".repeat(5000)]}), InvalidValue, "regex_patterns"),
            (json!({"regex_patterns": vec!["x"; 33]}), InvalidValue, "regex_patterns"),
            (json!({"regex_patterns": "x"}), InvalidValue, "regex_patterns"),
            (json!({"exclude_args": [1]}), InvalidValue, "exclude_args"),
            (json!({"exclude_args": ["a"], "exclude_tool_args": ["b"]}), InvalidValue, "exclude_tool_args"),
            (json!({"diversity_temperature": 0}), InvalidValue, "diversity_temperature"),
            (json!({"endpoint": "http://x"}), UnknownField, "endpoint"),
            (json!({"api_key": "x"}), UnknownField, "api_key"),
        ] {
            let error = over(request.clone()).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{request}: {}", error.message);
            assert!(error.message.contains(param), "{}", error.message);
        }
    }

    #[test]
    fn sampling_parameters_of_openai_are_not_fields_of_the_run() {
        assert_eq!(is_run_field("budget"), RunField::Known);
        for name in fields::names(Scope::Sampling).chain(["messages", "frequency_penalty", "top_a"]) {
            assert_eq!(is_run_field(name), RunField::No, "{name}");
        }
    }
}
