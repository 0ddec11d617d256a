//! Why a call or a candidate failed, and whose fault it is.
//!
//! Providers and the local engine speak of failure in these words alone; whether to retry and which HTTP
//! status a client sees are exhaustive matches over [`FailureKind`].

use std::time::Duration;

/// One failed call. The message is safe to show to a client: it never holds a key.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened and, where the reader can do something, what to change; lower case, no full stop.
    pub message: String,
    /// The upstream's HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long the upstream asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The request parameter at fault, where one is known.
    pub param: Option<String>,
}

/// The kinds of failure, by whose fault they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The request is one that this model or provider does not take (an upstream 400, 413 or 422).
    InvalidRequest,
    /// The request asks for something that this target cannot do yet.
    NotSupported,
    /// Prompt and completion do not fit the model's context.
    ContextLength,
    /// The provider's content policy refused the request.
    ContentPolicy,
    /// The upstream refused our credentials (401, 403).
    Auth,
    /// The upstream does not know the model or the path (404).
    NotFound,
    /// The upstream's rate limit (429).
    RateLimited,
    /// Our own queue is full.
    Overloaded,
    /// No connection, a connection that broke, or a server error (408, 409, 5xx).
    Unavailable,
    /// The upstream has answered nothing of late, and was not asked.
    LeftAlone,
    /// No answer within the time limit of a call.
    Timeout,
    /// No answer within the deadline of the request.
    Deadline,
    /// No answer within what the request may spend.
    Limit,
    /// Candidates were there, but whoever judges them failed.
    JudgeFailed,
    /// Whoever asked has cancelled the request.
    Cancelled,
    /// An answer that is not what the protocol promises.
    Malformed,
    /// A defect of ours.
    Internal,
}

impl FailureKind {
    /// Whether the same call may succeed when made again.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Unavailable | Self::Timeout | Self::Malformed => true,
            Self::InvalidRequest
            | Self::NotSupported
            | Self::ContextLength
            | Self::ContentPolicy
            | Self::Auth
            | Self::NotFound
            | Self::Overloaded
            | Self::LeftAlone
            | Self::Deadline
            | Self::Limit
            | Self::JudgeFailed
            | Self::Cancelled
            | Self::Internal => false,
        }
    }

    /// The word for this kind in response metadata, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::NotSupported => "not_supported_yet",
            Self::ContextLength => "context_length_exceeded",
            Self::ContentPolicy => "content_policy",
            Self::Auth => "upstream_auth",
            Self::NotFound => "upstream_not_found",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable | Self::LeftAlone => "upstream_unavailable",
            Self::Timeout => "upstream_timeout",
            Self::Deadline => "deadline_exceeded",
            Self::Limit => "limit_exceeded",
            Self::JudgeFailed => "judge_failed",
            Self::Cancelled => "request_cancelled",
            Self::Malformed => "upstream_malformed",
            Self::Internal => "internal_error",
        }
    }
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None, param: None }
    }

    /// A request that the target does not take, with the parameter to change.
    pub fn invalid_param(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(FailureKind::InvalidRequest, message) }
    }
}
