//! What AWS's names of exceptions mean, and what is wrong with a request that Bedrock or its model does not take, as far
//! as their words tell it. Words are looked for in small letters, since each model has its own.

use crate::failure::FailureKind;

/// The name of a quota that is used up, which no waiting brings back.
pub(super) const QUOTA: &str = "ServiceQuotaExceededException";

/// Whether a throttled call ran into a quota that only the next day brings back.
pub(super) fn is_of_the_day(said: &str) -> bool {
    ["per day", "daily"].iter().any(|words| said.contains(words))
}

/// What an exception means: those of Bedrock's service model, and those that are common to AWS's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exception {
    Kind(FailureKind),
    Throttled,
    /// The request is not taken; its words say why.
    Refused,
    /// The model's own server has failed, and may have said why.
    OfModel,
}

impl Exception {
    /// `None` for a name that is not known: its status has to tell.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown" => {
                Self::Throttled
            }
            QUOTA => Self::Kind(FailureKind::RateLimited),
            "ModelNotReadyException" | "ServiceUnavailableException" | "ServiceUnavailable" => {
                Self::Kind(FailureKind::Unavailable)
            }
            "InternalServerException" | "InternalServerError" | "InternalFailure" | "InternalError" => {
                Self::Kind(FailureKind::Unavailable)
            }
            "ModelTimeoutException" => Self::Kind(FailureKind::Timeout),
            "ModelErrorException" | "ModelStreamErrorException" => Self::OfModel,
            "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "OptInRequired" => {
                Self::Kind(FailureKind::Auth)
            }
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => Self::Kind(FailureKind::Auth),
            "UnrecognizedClientException" | "InvalidClientTokenId" => Self::Kind(FailureKind::Auth),
            "InvalidSignatureException" | "SignatureDoesNotMatch" => Self::Kind(FailureKind::Auth),
            "IncompleteSignatureException" | "IncompleteSignature" => Self::Kind(FailureKind::Auth),
            "MissingAuthenticationTokenException" | "MissingAuthenticationToken" => Self::Kind(FailureKind::Auth),
            "ResourceNotFoundException" | "UnknownOperationException" => Self::Kind(FailureKind::NotFound),
            "ValidationException" | "SerializationException" => Self::Refused,
            _ => return None,
        })
    }
}

/// Whether prompt and answer do not fit the model's context.
pub(super) fn is_overflow(said: &str) -> bool {
    const WORDS: [&str; 11] = [
        "input is too long",
        "prompt is too long",
        "exceed context limit",
        "maximum context length",
        "context window",
        "too many input tokens",
        "too many tokens",
        "input tokens exceeded",
        "number of input tokens exceeds",
        "number of tokens in the prompt cannot exceed",
        "exceeds the maximum number of tokens",
    ];
    WORDS.iter().any(|words| said.contains(words))
}

pub(super) fn is_content_policy(said: &str) -> bool {
    const WORDS: [&str; 4] =
        ["content filtering policy", "content filters", "blocked by our content", "violates our content policy"];
    WORDS.iter().any(|words| said.contains(words))
}

/// Whether the model is one that is not there, which Bedrock calls a mistake in the request.
pub(super) fn is_unknown_model(said: &str) -> bool {
    is_unknown_name(said) || said.contains("reached the end of its life")
}

/// Whether there is no model and no profile of this name where it was looked for.
pub(super) fn is_unknown_name(said: &str) -> bool {
    const WORDS: [&str; 2] = ["model identifier is invalid", "could not resolve the foundation model"];
    WORDS.iter().any(|words| said.contains(words))
}

/// The parameter that a refusal is about, by its name in OpenAI's API; `None` where it is about several, or where that
/// cannot be told.
pub(super) fn param_at_fault(message: &str) -> Option<String> {
    let mut names: Vec<String> = message
        .split(|letter: char| letter.is_whitespace() || "'\"`[](),;".contains(letter))
        .filter_map(openai_name)
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [name] => Some(name.clone()),
        _ => None,
    }
}

/// What OpenAI's API calls the member of a request that a word names; `None` of other words.
fn openai_name(word: &str) -> Option<String> {
    let (word, is_path) = match word.strip_prefix("#/") {
        Some(path) => (path, true),
        None => (word, false),
    };
    let word = word.trim_end_matches([':', '.']);
    if let Some(field) = word.strip_prefix("additionalModelRequestFields.") {
        return field.split(['.', '/']).next().filter(|field| !field.is_empty()).map(str::to_owned);
    }
    const MEMBERS: [(&str, &str); 8] = [
        ("inferenceConfig.maxTokens", "max_tokens"),
        ("inferenceConfig.temperature", "temperature"),
        ("inferenceConfig.topP", "top_p"),
        ("inferenceConfig.stopSequences", "stop"),
        ("toolConfig.toolChoice", "tool_choice"),
        ("toolConfig", "tools"),
        ("modelId", "model"),
        ("guardrailConfig", "guardrailConfig"),
    ];
    let begins_with =
        |member: &str| word.strip_prefix(member).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if let Some((_, name)) = MEMBERS.iter().find(|(member, _)| begins_with(member)) {
        return Some((*name).to_owned());
    }
    // The names that models have of their own, which are also words of the language: only those with an underscore or
    // in a path are taken for names.
    const NAMES: [(&str, &str); 6] = [
        ("max_tokens", "max_tokens"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("stop_sequences", "stop"),
        ("tool_choice", "tool_choice"),
        ("response_format", "response_format"),
    ];
    if let Some((_, name)) = NAMES.iter().find(|(own, _)| begins_with(own)) {
        return Some((*name).to_owned());
    }
    let head = word.split(['.', '/']).next()?;
    let has_more = word.len() > head.len();
    match head {
        "messages" | "tools" if has_more || is_path => Some(head.to_owned()),
        "system" if has_more => Some("messages".to_owned()),
        "temperature" if is_path => Some("temperature".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_are_told_by_the_words_of_every_family_of_models() {
        for said in [
            "The model returned the following errors: Input is too long for requested model.",
            "input length and `max_tokens` exceed context limit: 198000 + 20000 > 200000, decrease input length",
            "prompt is too long: 208310 tokens > 199999 maximum",
            "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again.",
            "This model's maximum context length is 8192 tokens. Please reduce the length of the prompt",
            "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9000",
        ] {
            assert!(is_overflow(&said.to_ascii_lowercase()), "{said}");
        }
        assert!(!is_overflow("the maximum tokens you requested exceeds the model limit of 4096"));
    }

    #[test]
    fn the_parameter_at_fault_is_told_by_the_name_it_has_for_the_client() {
        for (message, param) in [
            (
                "1 validation error detected: Value at 'inferenceConfig.temperature' failed to satisfy constraint: Member \
                 must have value less than or equal to 1",
                Some("temperature"),
            ),
            ("Value '0' at 'inferenceConfig.maxTokens' failed to satisfy constraint", Some("max_tokens")),
            ("Value at 'inferenceConfig.stopSequences.1.member' failed", Some("stop")),
            ("Value at 'toolConfig.tools.1.member.toolSpec.name' failed to satisfy constraint", Some("tools")),
            ("extraneous key [toolConfig.toolChoice.other] is not permitted", Some("tool_choice")),
            ("The model returned the following errors: max_tokens: 999999 > 64000", Some("max_tokens")),
            ("messages.3.content.0: `tool_use` ids were found without `tool_result` blocks", Some("messages")),
            (
                "Malformed input request: #/temperature: 5 is not less or equal to 1, please reformat",
                Some("temperature"),
            ),
            ("top_k: Input should be less than or equal to 500", Some("top_k")),
            ("extraneous key [additionalModelRequestFields.thinking.x] is not permitted", Some("thinking")),
            // Of two it could be either; of none nothing is known.
            ("`temperature` and `top_p` and `top_k` cannot all be specified", None),
            ("The system, its messages and tools: temperature is a word", None),
            ("The provided request is not valid", None),
        ] {
            assert_eq!(param_at_fault(message).as_deref(), param, "{message}");
        }
    }
}
