//! The settings of one run: which algorithm, how much of it, how candidates vote and when to stop.
//!
//! `/configure` sets them, a chat request may override each of them for itself.

use serde::{Deserialize, Serialize};

/// The settings that a configuration gives and a request may override.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    pub algorithm: AlgorithmName,
    /// Candidates asked for, 1 to 1000.
    pub budget: usize,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub max_tokens: Option<u32>,
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
