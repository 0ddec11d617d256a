//! Every field of a configuration as data: its names, what it takes, its default and what it is for.
//!
//! The parser takes ranges and words from here, and so do the JSON Schema and the API's description: they
//! cannot say different things.

use serde_json::Value;

use super::calls::UseN;
use super::capabilities::MEMBERS as CAPABILITIES;
use super::field::{self, SettingsError};
use super::provider::ProviderName;
use super::run::{
    Aggregation, AlgorithmName, FinalSelect, JudgeFallback, JudgeMode, ParticleWeights, Resample, Resampling,
    RewardName, Select, StopRule, ToolVote, VoteOn, VoteWeight,
};

/// One field of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    /// Other names of the same setting.
    pub aliases: &'static [&'static str],
    pub scope: Scope,
    pub kind: Kind,
    /// The default as JSON; `null` where leaving the field out is a choice of its own.
    pub default: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
}

/// Who may set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The configuration alone.
    Configuration,
    /// The configuration, and each request for itself.
    Run,
    /// A parameter of OpenAI's chat API, for which the configuration gives a default.
    Sampling,
}

/// What a field takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Boolean,
    /// A whole number, both ends included.
    Integer(i64, i64),
    /// A number, both ends included.
    Number(f64, f64),
    /// A number above 0 and up to the end.
    Positive(f64),
    /// A string that is not blank.
    Text,
    /// A string that is not empty, where white space counts.
    Token,
    /// A string that may be a secret, or a reference to one.
    Secret,
    /// An absolute URL, or `auto`.
    Url,
    /// The same, or a list of URLs and of objects with these members.
    Urls(&'static [Field]),
    /// A list of strings, none empty.
    Texts,
    /// A string or a list of strings.
    TextOrTexts,
    /// One of a closed set of words.
    Word {
        known: &'static [&'static str],
        later: &'static [&'static str],
    },
    /// One of these words, or free text with a space in it.
    WordOrText(&'static [&'static str]),
    /// One of these words, or a whole number.
    WordOrInteger(&'static [&'static str], i64, i64),
    /// An object with these members.
    Object(&'static [Field]),
    /// An object with strings under names that the client chooses.
    TextMap,
    /// An object with objects of these members under names that the client chooses.
    ObjectMap(&'static [Field]),
    /// An object with these members and others of any content.
    OpenObject(&'static [Field]),
    /// A temperature and the texts between which it holds, as a list of three.
    TemperatureSwitch,
    /// True, false or one of these words.
    BooleanOrWord(&'static [&'static str]),
}

/// Named criteria of the judge; anything with a space in it is a criterion of the client's own.
pub const JUDGE_CRITERIA: &[&str] = &["overall_quality", "multi_step_tool_judge", "correctness"];

const MAX_TOKENS: i64 = u32::MAX as i64;
const DAY_MS: i64 = 86_400_000;

const fn field(name: &'static str, scope: Scope, kind: Kind, default: &'static str, about: &'static str) -> Field {
    Field { name, aliases: &[], scope, kind, default, about }
}

const fn word(known: &'static [&'static str], later: &'static [&'static str]) -> Kind {
    Kind::Word { known, later }
}

/// Members of `limits`.
pub const LIMITS: &[Field] = &[
    field("deadline_ms", Scope::Run, Kind::Integer(1, DAY_MS), "null", "Milliseconds that a request may take."),
    field(
        "max_total_tokens",
        Scope::Run,
        Kind::Integer(1, 1_000_000_000_000),
        "null",
        "Tokens, prompt and completion, that all calls of a request may spend.",
    ),
    field("max_cost_usd", Scope::Run, Kind::Positive(1e9), "null", "US dollars that a request may spend."),
    field("max_candidates", Scope::Run, Kind::Integer(1, 1000), "null", "Candidates that a request may start."),
];

/// Members of an entry of the list that `endpoint` may be.
pub const ENDPOINT_MEMBER: &[Field] = &[
    field("url", Scope::Configuration, Kind::Text, "null", "The address."),
    field("weight", Scope::Configuration, Kind::Positive(1e6), "1.0", "How many calls it is worth beside the others."),
];

/// Members of `breaker`.
pub const BREAKER: &[Field] = &[
    field("enabled", Scope::Configuration, Kind::Boolean, "true", "Whether there is one."),
    field(
        "failure_share",
        Scope::Configuration,
        Kind::Positive(1.0),
        "0.5",
        "The share of failed attempts from which a member of a pool is left alone; the last one only when none of its \
         last attempts was answered.",
    ),
    field(
        "min_calls",
        Scope::Configuration,
        Kind::Integer(1, 1_000_000),
        "20",
        "Attempts within the window below which the share says nothing; so many failures in a row suffice alone.",
    ),
    field(
        "window_ms",
        Scope::Configuration,
        Kind::Integer(1, DAY_MS),
        "10000",
        "Milliseconds that are looked back on.",
    ),
    field(
        "cool_down_ms",
        Scope::Configuration,
        Kind::Integer(1, DAY_MS),
        "5000",
        "Milliseconds until a first call is let through again.",
    ),
];

/// Members of `extra_args` and `judge_extra_args` that are itsd's own.
pub const EXTRA_ARGS: &[Field] = &[
    field(
        "capabilities",
        Scope::Configuration,
        Kind::Object(CAPABILITIES),
        "{}",
        "What the models can do, in place of what is known of the provider.",
    ),
    field(
        "aws_access_key_id",
        Scope::Configuration,
        Kind::Secret,
        "null",
        "The ID of the key that Bedrock's calls are signed with.",
    ),
    field("aws_secret_access_key", Scope::Configuration, Kind::Secret, "null", "That key."),
    field("aws_session_token", Scope::Configuration, Kind::Secret, "null", "Its token, where it is temporary."),
    field(
        "aws_profile_name",
        Scope::Configuration,
        Kind::Text,
        "null",
        "A profile of the daemon's files for AWS, in place of a key.",
    ),
    field("aws_region_name", Scope::Configuration, Kind::Text, "null", "The region in which Bedrock is called."),
    field(
        "aws_bedrock_runtime_endpoint",
        Scope::Configuration,
        Kind::Url,
        "null",
        "Another way to say `endpoint` for Bedrock.",
    ),
];

/// Members of one model's entry in `prices`, in US dollars for a million tokens.
pub const PRICE: &[Field] = &[
    field("prompt", Scope::Configuration, Kind::Number(0.0, 1e6), "0", "Prompt tokens."),
    field(
        "cached_prompt",
        Scope::Configuration,
        Kind::Number(0.0, 1e6),
        "null",
        "Prompt tokens that the provider read from its cache; the price of others where it is not given.",
    ),
    field(
        "cache_write_prompt",
        Scope::Configuration,
        Kind::Number(0.0, 1e6),
        "null",
        "Prompt tokens that the provider wrote to its cache; the price of others where it is not given.",
    ),
    field("completion", Scope::Configuration, Kind::Number(0.0, 1e6), "0", "Completion tokens."),
];

use Scope::{Configuration, Run, Sampling};

/// Every field, in the order in which they are shown.
pub const FIELDS: &[Field] = &[
    field("provider", Configuration, word(ProviderName::WORDS, ProviderName::LATER), "\"openai\"", "Who answers."),
    field(
        "endpoint",
        Configuration,
        Kind::Urls(ENDPOINT_MEMBER),
        "\"auto\"",
        "The provider's address, or a list of them to share the calls; `auto` is its usual one.",
    ),
    field(
        "api_key",
        Configuration,
        Kind::Secret,
        "null",
        "The provider's key: `env:NAME`, `file:PATH` or a literal; without it the provider's usual variable, or none.",
    ),
    field("model", Configuration, Kind::Text, "null", "The model that answers, by the name that requests use."),
    field("model_mapping", Configuration, Kind::TextMap, "{}", "Public names of models, and the provider's for them."),
    field(
        "allow_any_model",
        Configuration,
        Kind::Boolean,
        "false",
        "Whether other names pass through to the provider.",
    ),
    field(
        "allow_request_endpoint",
        Configuration,
        Kind::Boolean,
        "false",
        "Whether the headers X-ITS-Endpoint and X-ITS-API-Key are honoured.",
    ),
    field(
        "n_parallel",
        Configuration,
        Kind::Integer(1, 4096),
        "32",
        "Calls to the provider, or to each member of a pool, at a time.",
    ),
    field(
        "max_queued",
        Configuration,
        Kind::Integer(0, 1_000_000),
        "1024",
        "Requests that may wait for a place among these calls; a further one is refused at once.",
    ),
    field(
        "use_n",
        Configuration,
        word(UseN::WORDS, &[]),
        "\"auto\"",
        "Whether several candidates are asked for in one call, by `n`.",
    ),
    field("timeout_ms", Configuration, Kind::Integer(1, DAY_MS), "600000", "Milliseconds that one attempt may take."),
    field(
        "connect_timeout_ms",
        Configuration,
        Kind::Integer(1, DAY_MS),
        "10000",
        "Milliseconds until a connection must be there.",
    ),
    field(
        "first_byte_timeout_ms",
        Configuration,
        Kind::Integer(1, DAY_MS),
        "null",
        "Milliseconds, from the beginning of an attempt, until the first byte of its answer's body, or the first event \
         of a stream; as long as the attempt may take where it is not given.",
    ),
    field(
        "idle_timeout_ms",
        Configuration,
        Kind::Integer(1, DAY_MS),
        "120000",
        "Milliseconds that an answer may be silent after it has begun; comments in a stream are silence.",
    ),
    field("max_retries", Configuration, Kind::Integer(0, 20), "3", "Attempts of a call after the first."),
    field(
        "retry_budget",
        Configuration,
        Kind::Number(0.0, 20.0),
        "0.2",
        "Retries as a share of the calls of the last ten seconds, besides ten that are free; above it a failure is final.",
    ),
    field("breaker", Configuration, Kind::Object(BREAKER), "{}", "When a failing provider is left alone."),
    field(
        "http2",
        Configuration,
        Kind::Boolean,
        "false",
        "Whether to speak HTTP/2: over https:// where the server offers it, over http:// to a server that must know it.",
    ),
    field("prices", Configuration, Kind::ObjectMap(PRICE), "{}", "US dollars for a million tokens, by model."),
    field(
        "extra_args",
        Configuration,
        Kind::OpenObject(EXTRA_ARGS),
        "{}",
        "Headers and body fields for every call to the provider.",
    ),
    field("alg", Run, word(AlgorithmName::WORDS, AlgorithmName::LATER), "\"self-consistency\"", "The algorithm."),
    field("budget", Run, Kind::Integer(1, 1000), "8", "Candidates of a request that names no budget."),
    field("temperature", Sampling, Kind::Number(0.0, 2.0), "null", "Default temperature."),
    field("top_p", Sampling, Kind::Number(0.0, 1.0), "null", "Default nucleus."),
    field("top_k", Sampling, Kind::Integer(0, 1_000_000), "null", "Default number of likeliest tokens."),
    field("max_tokens", Sampling, Kind::Integer(1, MAX_TOKENS), "null", "Default length limit in tokens."),
    field(
        "max_completion_tokens",
        Sampling,
        Kind::Integer(1, MAX_TOKENS),
        "null",
        "The same under the name that newer models of OpenAI take.",
    ),
    field("seed", Sampling, Kind::Integer(i64::MIN, i64::MAX), "null", "Default seed."),
    field("stop", Sampling, Kind::TextOrTexts, "null", "Default texts that end an answer."),
    field(
        "diversity_temperature",
        Run,
        Kind::Positive(2.0),
        "null",
        "Used instead of 0 when a request has temperature 0 and several candidates.",
    ),
    field("tool_vote", Run, word(ToolVote::WORDS, &[]), "\"tool_hierarchical\"", "How tool calls are compared."),
    Field {
        aliases: &["exclude_tool_args"],
        ..field("exclude_args", Run, Kind::Texts, "[]", "Arguments left out of the tool vote.")
    },
    field("regex_patterns", Run, Kind::Texts, "[]", "Patterns whose matches are voted on."),
    field("vote_on", Run, word(VoteOn::WORDS, &[]), "\"auto\"", "What of a text answer is compared."),
    field("vote_weight", Run, word(VoteWeight::WORDS, &[]), "\"none\"", "What a vote weighs."),
    field("weight_temperature", Run, Kind::Positive(1e6), "1.0", "T of the weight exp(c/T)."),
    field("stop_rule", Run, word(StopRule::WORDS, &[]), "\"decided\"", "When a run stops early."),
    field("confidence", Run, Kind::Number(0.5, 1.0), "0.95", "Probability at which the stop rule `beta` stops."),
    field("window", Run, Kind::Integer(1, 1000), "5", "Candidates of a window of the stop rule `window`."),
    field("threshold", Run, Kind::Positive(1.0), "0.75", "Share at which the stop rule `threshold` stops."),
    field(
        "wave",
        Run,
        Kind::WordOrInteger(&["auto", "prime"], 1, 1000),
        "\"auto\"",
        "How many candidates are started at a time.",
    ),
    field("select", Run, word(Select::WORDS, &[]), "\"argmax\"", "How best-of-N chooses by scores."),
    field("rm_name", Run, word(RewardName::WORDS, RewardName::LATER), "null", "What scores candidates."),
    field("rm_agg_method", Run, word(Aggregation::WORDS, &[]), "\"last\"", "How scores of steps become one."),
    field("scoring_window", Run, Kind::Integer(1, 100_000), "null", "Steps, from the last, that are scored."),
    field("step_token", Run, Kind::Token, "null", "What ends a step; a blank line where it is not given."),
    field("tokens_per_step", Run, Kind::Integer(1, 1_000_000), "null", "Tokens at which a step ends at the latest."),
    field("judge_model", Configuration, Kind::Text, "null", "The judge; the model that answers where it is not given."),
    field(
        "judge_base_url",
        Configuration,
        Kind::Url,
        "\"auto\"",
        "The judge's address; `auto` is that of its provider.",
    ),
    field("judge_api_key", Configuration, Kind::Secret, "null", "The key for the judge."),
    field(
        "judge_extra_args",
        Configuration,
        Kind::OpenObject(EXTRA_ARGS),
        "{}",
        "`extra_args` for calls to the judge.",
    ),
    field(
        "judge_criterion",
        Run,
        Kind::WordOrText(JUDGE_CRITERIA),
        "\"overall_quality\"",
        "What is judged: a named criterion, or one in free text.",
    ),
    field("judge_mode", Run, word(JudgeMode::WORDS, &[]), "\"groupwise\"", "One by one, or against each other."),
    field("judge_top_n", Run, Kind::Integer(1, 8), "1", "Candidates that a groupwise judge picks."),
    field("judge_temperature", Run, Kind::Number(0.0, 2.0), "0.0", "The judge's temperature."),
    field("judge_max_tokens", Run, Kind::Integer(1, MAX_TOKENS), "4096", "The judge's length limit in tokens."),
    field("judge_fallback", Run, word(JudgeFallback::WORDS, &[]), "\"vote\"", "What decides when the judge fails."),
    field("enable_judge_logging", Run, Kind::Boolean, "true", "Whether the log tells of each judgement's scores."),
    field("wait_rounds", Run, Kind::Integer(0, 20), "1", "Times that `wait` asks the model to check its reasoning."),
    field("max_steps", Run, Kind::Integer(1, 10_000), "50", "Steps after which a search ends."),
    field("stop_token", Run, Kind::Token, "null", "Text that ends a path of a search with the step that holds it."),
    field(
        "temperature_switch",
        Run,
        Kind::TemperatureSwitch,
        "null",
        "Another temperature within a search, and the texts between which it holds.",
    ),
    field("beam_width", Run, Kind::Integer(1, 1000), "4", "Paths that a beam search keeps after each step."),
    field(
        "candidates_per_step",
        Run,
        Kind::Integer(1, 1000),
        "null",
        "Continuations of each path of a beam search: `budget` / `beam_width`, which it must be where it is given.",
    ),
    field("dedup", Run, Kind::Boolean, "true", "Whether a beam search keeps one of several paths of the same text."),
    field("resampling", Run, word(Resampling::WORDS, &[]), "\"systematic\"", "How particles are drawn anew."),
    field("resample", Run, word(Resample::WORDS, &[]), "\"always\"", "When particles are drawn anew."),
    field("weights", Run, word(ParticleWeights::WORDS, &[]), "\"absolute\"", "What a particle weighs."),
    field("final_select", Run, word(FinalSelect::WORDS, &[]), "\"argmax\"", "Which particle is the answer."),
    field("iterations", Run, Kind::Integer(1, 1), "1", "Times that particles are filtered: once."),
    field("limits", Run, Kind::Object(LIMITS), "{}", "What a request may spend at most."),
];

/// Fields of the contract that this version does not have.
pub const LATER: &[&str] =
    &["expected_steps", "lookahead", "num_ref_particles", "rm_device", "rm_format", "tempering", "thinking_budget"];

/// The field of a name or an alias.
pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name || field.aliases.contains(&name))
}

/// Every name and alias of the fields of a scope.
pub fn names(scope: Scope) -> impl Iterator<Item = &'static str> {
    let of_scope = FIELDS.iter().filter(move |field| field.scope == scope);
    of_scope.flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()))
}

impl Field {
    /// Reads a whole number in the field's range.
    ///
    /// # Errors
    ///
    /// Another type, or a value out of range.
    ///
    /// # Panics
    ///
    /// When the field takes something else; so do the other readers.
    pub fn integer(&self, param: &str, value: &Value) -> Result<i64, SettingsError> {
        match self.kind {
            Kind::Integer(least, most) | Kind::WordOrInteger(_, least, most) => {
                field::integer(param, value, least..=most)
            }
            _ => panic!("`{}` is no whole number", self.name),
        }
    }

    /// Reads a number in the field's range.
    ///
    /// # Errors
    ///
    /// Another type, or a value out of range.
    pub fn number(&self, param: &str, value: &Value) -> Result<f64, SettingsError> {
        match self.kind {
            Kind::Number(least, most) => field::number(param, value, least..=most),
            Kind::Positive(most) => field::positive(param, value, most),
            _ => panic!("`{}` is no number", self.name),
        }
    }
}

/// The field of a name that is known to exist.
pub(super) fn known(name: &str) -> &'static Field {
    find(name).unwrap_or_else(|| panic!("`{name}` is a field"))
}

/// Reads a whole number by the range of its field.
pub(super) fn integer(name: &str, value: &Value) -> Result<i64, SettingsError> {
    known(name).integer(name, value)
}

/// Reads a number by the range of its field.
pub(super) fn number(name: &str, value: &Value) -> Result<f64, SettingsError> {
    known(name).number(name, value)
}
