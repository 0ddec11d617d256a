//! The settings of one run: which algorithm, how much of it, how candidates vote and when to stop.
//!
//! `/configure` sets them, a chat request may override each of them for itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::completion::{MaxTokens, MaxTokensName};

use super::field::{self, SettingsError};

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
    pub stop_rule: StopRule,
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
            stop_rule: StopRule::Decided,
        }
    }
}

/// The algorithms that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmName {
    SelfConsistency,
    /// One plain call.
    None,
}

impl AlgorithmName {
    const KNOWN: [(&'static str, Self); 2] = [("self-consistency", Self::SelfConsistency), ("none", Self::None)];
    const LATER: [&'static str; 14] = [
        "adaptive-self-consistency",
        "beam-search",
        "best-of-n",
        "beta-self-consistency",
        "budget-forcing",
        "dvts",
        "entropic-particle-filtering",
        "mixture-of-n",
        "offline-bon",
        "online-best-of-n",
        "online-bon",
        "particle-filtering",
        "particle-gibbs",
        "wait",
    ];

    pub fn parse(value: &Value) -> Result<Self, SettingsError> {
        field::choice("alg", value, &Self::KNOWN, &Self::LATER)
    }

    pub fn as_str(self) -> &'static str {
        Self::KNOWN.iter().find(|(_, algorithm)| *algorithm == self).expect("every algorithm has a name").0
    }
}

/// How tool calls are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolVote {
    /// The sequence of tool names.
    ToolName,
    /// The arguments as one whole.
    ToolArgs,
    /// First the most common names, then among those the most common arguments.
    ToolHierarchical,
    /// The unordered set of (name, arguments) of parallel calls.
    ToolSet,
}

/// What of a text answer is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteOn {
    Auto,
    Answer,
    Exact,
    Number,
    Choice,
    Json,
    Regex,
    Similarity,
}

/// When a run stops before every candidate is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopRule {
    /// As soon as no ending of the unfinished candidates can change the winning class.
    Decided,
    /// Never: every candidate is awaited.
    None,
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
    if RUN_FIELDS.contains(&name) {
        RunField::Known
    } else if LATER_RUN_FIELDS.contains(&name) || LATER_REQUEST_FIELDS.contains(&name) {
        RunField::Later
    } else {
        RunField::No
    }
}

/// itsd's own per-run fields.
pub(super) const RUN_FIELDS: [&str; 9] = [
    "alg",
    "budget",
    "diversity_temperature",
    "exclude_args",
    "exclude_tool_args",
    "regex_patterns",
    "stop_rule",
    "tool_vote",
    "vote_on",
];

/// OpenAI's sampling parameters, for which a configuration may give defaults.
pub(super) const SAMPLING_FIELDS: [&str; 7] =
    ["max_completion_tokens", "max_tokens", "seed", "stop", "temperature", "top_k", "top_p"];

/// Per-run fields of the contract that this version does not have.
pub(super) const LATER_RUN_FIELDS: [&str; 44] = [
    "beam_width",
    "candidates_per_step",
    "confidence",
    "dedup",
    "enable_judge_logging",
    "expected_steps",
    "final_select",
    "iterations",
    "judge_api_key",
    "judge_base_url",
    "judge_criterion",
    "judge_extra_args",
    "judge_fallback",
    "judge_max_tokens",
    "judge_mode",
    "judge_model",
    "judge_temperature",
    "judge_top_n",
    "limits",
    "lookahead",
    "max_steps",
    "num_ref_particles",
    "resample",
    "resampling",
    "rm_agg_method",
    "rm_device",
    "rm_format",
    "rm_name",
    "scoring_window",
    "select",
    "step_token",
    "stop_token",
    "temperature_switch",
    "tempering",
    "thinking_budget",
    "threshold",
    "tokens_per_step",
    "use_n",
    "vote_weight",
    "wait_rounds",
    "wave",
    "weight_temperature",
    "weights",
    "window",
];

/// Fields that only a chat request could carry, of features that this version does not have.
const LATER_REQUEST_FIELDS: [&str; 11] = [
    "num_paths",
    "provider",
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

    /// Sets the fields that are named. Whoever calls has dropped nulls and names that are not of
    /// [`RUN_FIELDS`] or [`SAMPLING_FIELDS`].
    pub(super) fn apply(&mut self, named: &BTreeMap<&str, Value>) -> Result<(), SettingsError> {
        if let (Some(one), Some(other)) = (named.get("exclude_args"), named.get("exclude_tool_args"))
            && one != other
        {
            return Err(SettingsError::invalid(
                "exclude_tool_args",
                "`exclude_tool_args` and `exclude_args` are one setting and are given different values",
            ));
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
        match name {
            "alg" => self.algorithm = AlgorithmName::parse(value)?,
            "budget" => self.budget = field::integer(name, value, 1..=1000)? as usize,
            "temperature" => self.temperature = Some(field::number(name, value, 0.0..=2.0)?),
            "top_p" => self.top_p = Some(field::number(name, value, 0.0..=1.0)?),
            "top_k" => self.top_k = Some(field::integer(name, value, 0..=1_000_000)? as u32),
            "max_tokens" => self.max_tokens = Some(max_tokens(value, MaxTokensName::MaxTokens)?),
            "max_completion_tokens" => self.max_tokens = Some(max_tokens(value, MaxTokensName::MaxCompletionTokens)?),
            "seed" => self.seed = Some(field::integer(name, value, i64::MIN..=i64::MAX)?),
            "stop" => self.stop = stop_texts(value)?,
            "diversity_temperature" => {
                let temperature = field::number(name, value, 0.0..=2.0)?;
                if temperature == 0.0 {
                    return Err(SettingsError::invalid(
                        name,
                        "`diversity_temperature` must be above 0, since it is what replaces a temperature of 0",
                    ));
                }
                self.diversity_temperature = Some(temperature);
            }
            "tool_vote" => {
                self.tool_vote = field::choice(
                    name,
                    value,
                    &[
                        ("tool_name", ToolVote::ToolName),
                        ("tool_args", ToolVote::ToolArgs),
                        ("tool_hierarchical", ToolVote::ToolHierarchical),
                        ("tool_set", ToolVote::ToolSet),
                    ],
                    &[],
                )?;
            }
            "exclude_args" | "exclude_tool_args" => self.exclude_args = field::texts(name, value)?,
            "regex_patterns" => self.regex_patterns = regex_patterns(value)?,
            "vote_on" => {
                self.vote_on = field::choice(
                    name,
                    value,
                    &[
                        ("auto", VoteOn::Auto),
                        ("answer", VoteOn::Answer),
                        ("exact", VoteOn::Exact),
                        ("number", VoteOn::Number),
                        ("choice", VoteOn::Choice),
                        ("json", VoteOn::Json),
                        ("regex", VoteOn::Regex),
                        ("similarity", VoteOn::Similarity),
                    ],
                    &[],
                )?;
            }
            "stop_rule" => {
                self.stop_rule = field::choice(
                    name,
                    value,
                    &[("decided", StopRule::Decided), ("none", StopRule::None)],
                    &["beta", "window", "threshold"],
                )?;
            }
            _ => return Err(SettingsError::unknown(name, RUN_FIELDS)),
        }
        Ok(())
    }
}

pub(super) fn not_supported_yet(name: &str) -> SettingsError {
    SettingsError::later(name, format!("`{name}` is not supported yet by this version; leave it out or send null"))
}

fn max_tokens(value: &Value, name: MaxTokensName) -> Result<MaxTokens, SettingsError> {
    let tokens = field::integer(name.as_str(), value, 1..=i64::from(u32::MAX))? as u32;
    Ok(MaxTokens { tokens, name })
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
            "regex_patterns": ["(\\d+)"], "stop_rule": "none", "diversity_temperature": 0.7, "beam_width": null
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
            (json!({"alg": "best-of-n"}), NotSupportedYet, "alg"),
            (json!({"alg": "offline_bon"}), NotSupportedYet, "alg"),
            (json!({"alg": "self-consistent"}), InvalidValue, "alg"),
            (json!({"alg": 3}), InvalidValue, "alg"),
            (json!({"stop_rule": "beta"}), NotSupportedYet, "stop_rule"),
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
        assert_eq!(is_run_field("tts_scorer"), RunField::Later);
        assert_eq!(is_run_field("provider"), RunField::Later);
        for name in SAMPLING_FIELDS.into_iter().chain(["messages", "frequency_penalty", "top_a"]) {
            assert_eq!(is_run_field(name), RunField::No, "{name}");
        }
    }
}
