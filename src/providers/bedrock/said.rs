//! What Bedrock says of an error, and which of our failures that is.

use serde::Deserialize;
use serde_json::Value;

use super::fault::{is_content_policy, is_overflow, is_unknown_model, param_at_fault};
use super::strike::strike;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{Upstream, by_status, is_verdict};

/// An error in AWS's words.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of an answer; of what breaks within a stream there is none.
    status: Option<u16>,
    /// The exception's name, such as `ThrottlingException`.
    code: Option<String>,
    message: Option<String>,
    /// What the model's own server answered with.
    original_status: Option<u16>,
    original_message: Option<String>,
}

/// The JSON of an error, in whichever of AWS's usual shapes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(rename = "__type")]
    kind: Option<Value>,
    code: Option<Value>,
    #[serde(alias = "Message", alias = "errorMessage")]
    message: Option<Value>,
    #[serde(rename = "originalStatusCode")]
    original_status: Option<Value>,
    #[serde(rename = "originalMessage")]
    original_message: Option<Value>,
    /// Of a path that is none of the service's.
    #[serde(rename = "Output")]
    output: Option<Box<Body>>,
}

impl Said {
    /// An answer that is no success.
    pub fn of_response(status: u16, error_type: Option<&str>, body: &[u8]) -> Self {
        let Ok(said) = serde_json::from_slice::<Body>(body) else {
            let text = String::from_utf8_lossy(body);
            let message = match text.trim() {
                "" => None,
                page if page.starts_with('<') => Some("a page of HTML instead of JSON".to_owned()),
                text => Some(text.to_owned()),
            };
            return Self { status: Some(status), code: error_type.map(bare_name), message, ..Self::default() };
        };
        let said = match said {
            Body { output: Some(inner), .. } => *inner,
            said => said,
        };
        let named = [&said.kind, &said.code].into_iter().find_map(text);
        let code = error_type.map(str::to_owned).or(named);
        Self { status: Some(status), code: code.as_deref().map(bare_name), ..Self::of_body(&said) }
    }

    /// An exception within a stream: its name there begins with a small letter.
    pub fn of_exception(name: &str, payload: &[u8]) -> Self {
        let mut letters = name.chars();
        let code = letters.next().map(|first| first.to_uppercase().chain(letters).collect());
        Self { code, ..Self::of_body(&serde_json::from_slice(payload).unwrap_or_default()) }
    }

    /// An error within a stream that the service model does not know.
    pub fn of_error(code: Option<String>, message: Option<String>) -> Self {
        Self { code: code.as_deref().map(bare_name), message, ..Self::default() }
    }

    fn of_body(body: &Body) -> Self {
        let status = body.original_status.as_ref().and_then(Value::as_u64);
        Self {
            message: text(&body.message),
            original_status: status.and_then(|status| status.try_into().ok()),
            original_message: text(&body.original_message),
            ..Self::default()
        }
    }

    pub fn failure(&self, upstream: &Upstream) -> AttemptFailure {
        let kind = self.kind();
        // Clients look for these words, whoever the provider is.
        let opening = if kind == FailureKind::ContextLength { "Input exceeds maximum context length: " } else { "" };
        let answered = match (self.status, self.code.as_deref()) {
            (Some(status), Some(code)) => format!("{status} {code}"),
            (Some(status), None) => status.to_string(),
            (None, code) => code.unwrap_or("with an error").to_owned(),
        };
        let refused = match kind {
            FailureKind::Auth => format!(" and refused {}", upstream.wording.key),
            _ => String::new(),
        };
        let words = self.words();
        let message = upstream.clean(&strike(&format!("{opening}{} answered {answered}{refused}: {words}", upstream.name)));
        let param = match kind {
            FailureKind::InvalidRequest => self.message.as_deref().and_then(param_at_fault),
            _ => None,
        };
        let failure = Failure { status: self.status, param, ..Failure::new(kind, message) };
        let attempt = AttemptFailure { is_verdict: self.is_verdict(kind), ..AttemptFailure::from(failure) };
        match self.code.as_deref() {
            // It does not pass by waiting: AWS's own clients do not repeat it either.
            Some("ServiceQuotaExceededException") => AttemptFailure { may_retry: false, ..attempt }.refused(),
            // The model was at it.
            Some("ModelErrorException" | "ModelStreamErrorException" | "ModelTimeoutException") => attempt,
            _ => attempt.refused(),
        }
    }

    /// What is passed on of what was said.
    fn words(&self) -> String {
        let message = self.message.as_deref();
        let mut words = match self.code.as_deref() {
            // They quote the header that proves who asks, in words that come and go.
            Some("IncompleteSignatureException" | "IncompleteSignature") => {
                "the signature did not arrive whole; does something on the way change headers?".to_owned()
            }
            _ => message.filter(|message| !message.is_empty()).unwrap_or("no reason given").to_owned(),
        };
        if let Some(original) = self.original_message.as_deref().filter(|original| message != Some(original)) {
            words = format!("{words} ({original})");
        }
        match self.original_status {
            Some(status) => format!("{words} [the model's server answered {status}]"),
            None => words,
        }
    }

    fn kind(&self) -> FailureKind {
        match self.code.as_deref().unwrap_or_default() {
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "ServiceQuotaExceededException"
            | "RequestLimitExceeded" | "SlowDown" => FailureKind::RateLimited,
            "ModelNotReadyException" | "ServiceUnavailableException" | "ServiceUnavailable" | "InternalServerException"
            | "InternalServerError" | "InternalFailure" | "InternalError" => FailureKind::Unavailable,
            "ModelTimeoutException" => FailureKind::Timeout,
            // What the model's server says of a request holds for the model, if that is what it says.
            "ModelErrorException" | "ModelStreamErrorException" => match self.original_status {
                Some(429) => FailureKind::RateLimited,
                Some(400 | 413 | 422) => self.kind_of_refusal(),
                _ => FailureKind::Unavailable,
            },
            "AccessDeniedException" | "AccessDenied" | "ExpiredTokenException" | "ExpiredToken" | "RequestExpired"
            | "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidSignatureException"
            | "SignatureDoesNotMatch" | "IncompleteSignatureException" | "IncompleteSignature"
            | "MissingAuthenticationTokenException" | "MissingAuthenticationToken" | "NotAuthorized" | "OptInRequired" => {
                FailureKind::Auth
            }
            "ResourceNotFoundException" | "UnknownOperationException" => FailureKind::NotFound,
            "ValidationException" | "SerializationException" => self.kind_of_refusal(),
            _ => match self.status.map_or(FailureKind::Unavailable, by_status) {
                FailureKind::InvalidRequest => self.kind_of_refusal(),
                kind => kind,
            },
        }
    }

    /// The kind of a request that is not taken, by what is said of it.
    fn kind_of_refusal(&self) -> FailureKind {
        let said = [&self.message, &self.original_message].into_iter().flatten();
        let said = said.map(|message| message.to_ascii_lowercase()).collect::<Vec<_>>().join("\n");
        if is_overflow(&said) {
            FailureKind::ContextLength
        } else if is_content_policy(&said) {
            FailureKind::ContentPolicy
        } else if is_unknown_model(&said) {
            FailureKind::NotFound
        } else {
            FailureKind::InvalidRequest
        }
    }

    /// As [`is_verdict`], of exceptions that have no status of their own, or the same one as a refusal.
    fn is_verdict(&self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::InvalidRequest
            | FailureKind::ContextLength
            | FailureKind::ContentPolicy
            | FailureKind::Auth
            | FailureKind::NotFound => true,
            FailureKind::Unavailable | FailureKind::Timeout => false,
            kind => is_verdict(self.status, kind),
        }
    }
}

fn text(value: &Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// The name alone: AWS puts a namespace before it or behind.
fn bare_name(name: &str) -> String {
    let name = name.split(':').next().unwrap_or(name);
    name.rsplit('#').next().unwrap_or(name).trim().to_owned()
}
