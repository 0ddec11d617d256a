//! What an upstream's refusal means: its status, its code and its words, turned into one of our failures.

use std::time::SystemTime;

use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::failure::{Failure, FailureKind};
use crate::providers::retry::{AttemptFailure, requested_pause};
use crate::providers::upstream::{Upstream, by_status, is_verdict};

impl Upstream {
    /// The failure of a response whose status is not a success.
    pub fn refusal(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> AttemptFailure {
        let said = Said::read(body);
        let mut attempt = self.failure(Some(status), &said);
        attempt.failure.retry_after = requested_pause(headers, SystemTime::now());
        if (300..400).contains(&status) {
            let target = self.redirect_target(headers).unwrap_or_else(|| "elsewhere".to_owned());
            attempt.failure.message = self.clean(&format!(
                "{} answered with a redirect to {target}, which is not followed; set `{}` to the final address",
                self.name, self.wording.endpoint
            ));
        }
        attempt
    }

    /// Where a redirect leads, without what may follow the path: a query often holds a token.
    fn redirect_target(&self, headers: &HeaderMap) -> Option<String> {
        let location = headers.get("location")?.to_str().ok()?;
        let target = Url::parse(&self.origin).ok()?.join(location).ok()?;
        target.has_host().then(|| format!("{}{}", target.origin().ascii_serialization(), target.path()))
    }

    /// The failure that a body or stream event with status 200 carries; `None` when it carries no error.
    pub fn error_in_success(&self, body: &[u8]) -> Option<AttemptFailure> {
        let said = Said::read(body);
        // Providers put the status of whatever stands behind them into the code.
        said.is_error.then(|| self.failure(said.status(), &said))
    }

    /// The failure of a model that broke off, of which a choice tells in place of its answer's end.
    pub fn error_in_choice(&self, error: Option<&RawValue>) -> AttemptFailure {
        let said = error.map(|error| format!("{{\"error\":{}}}", error.get()));
        // The model had begun, which is paid for.
        match said.and_then(|said| self.error_in_success(said.as_bytes())) {
            Some(AttemptFailure { failure, is_verdict, .. }) => {
                AttemptFailure { is_verdict, ..AttemptFailure::from(failure) }
            }
            None => {
                Failure::new(FailureKind::Unavailable, format!("{} ended its answer with an error", self.name)).into()
            }
        }
    }

    fn failure(&self, status: Option<u16>, said: &Said) -> AttemptFailure {
        let words = said.message.as_deref().unwrap_or("no reason given");
        let kind = said.kind(status.map(by_status));
        // Clients look for these words, whoever the provider is.
        let opening = if kind == FailureKind::ContextLength { "Input exceeds maximum context length: " } else { "" };
        let answered = match status {
            Some(status) => status.to_string(),
            None => "with an error".to_owned(),
        };
        // The client has sent a key too, which is not the one that is spoken of.
        let refused = match kind {
            FailureKind::Auth => format!(" and refused {}", self.wording.key),
            _ => String::new(),
        };
        let message = self.clean(&format!("{opening}{} answered {answered}{refused}: {words}", self.name));
        let failure = Failure {
            status,
            param: said.param.as_deref().map(|param| self.clean(param)),
            ..Failure::new(kind, message)
        };
        // A used-up quota or an unpaid bill looks like a rate limit but does not pass.
        if said.has("insufficient_quota") || said.has("billing_hard_limit_reached") || status == Some(402) {
            return AttemptFailure::fatal(failure).refused();
        }
        let attempt = AttemptFailure { is_verdict: is_verdict(status, kind), ..AttemptFailure::from(failure) };
        // What the model has written is paid for, whatever was wrong with it.
        if kind == FailureKind::Malformed { attempt } else { attempt.refused() }
    }
}

/// What an error body says, in whichever of the usual shapes.
#[derive(Debug, Default)]
struct Said {
    is_error: bool,
    message: Option<String>,
    /// Numbers are kept as their text.
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            let message = match text {
                "" => None,
                page if page.starts_with('<') => Some("a page of HTML instead of JSON".to_owned()),
                text => Some(text.to_owned()),
            };
            return Self { message, ..Self::default() };
        };
        // Some gateways wrap the error object in an array.
        let value = match value {
            Value::Array(mut items) if !items.is_empty() => items.swap_remove(0),
            other => other,
        };
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        match value.get("error") {
            Some(Value::String(message)) => Self {
                is_error: true,
                message: Some(message.clone()),
                code: text(value.get("code")),
                ..Self::default()
            },
            Some(error) if !error.is_null() => Self {
                is_error: true,
                message: text(error.get("message"))
                    .map(|message| match text(error.pointer("/metadata/raw")) {
                        // A router repeats what the provider behind it has said.
                        Some(raw) => format!("{message}: {raw}"),
                        None => message,
                    })
                    .or_else(|| Some(error.to_string())),
                code: text(error.get("code")),
                kind: text(error.get("type")),
                param: text(error.get("param")),
            },
            _ => {
                let message = text(value.get("message")).or_else(|| value.get("detail").and_then(detail));
                Self {
                    is_error: message.is_some() && value.get("choices").is_none(),
                    message,
                    code: text(value.get("code")),
                    kind: text(value.get("type")),
                    param: text(value.get("param")),
                }
            }
        }
    }

    /// The code, where it is a status.
    fn status(&self) -> Option<u16> {
        self.code.as_deref()?.parse().ok().filter(|code| (400..600).contains(code))
    }

    fn has(&self, word: &str) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|text| text.eq_ignore_ascii_case(word))
    }

    /// The kind of failure, given what the status says. The error's own words are more exact where the
    /// status is a general one: an overflow is also a bad request, and some servers call it their own error. So is a
    /// status that the error names in its code, since llama.cpp's server has answered bad requests with 500.
    fn kind(&self, by_status: Option<FailureKind>) -> FailureKind {
        match by_status {
            Some(general @ (FailureKind::InvalidRequest | FailureKind::Unavailable)) => {
                self.particular_kind().or_else(|| self.status().map(self::by_status)).unwrap_or(general)
            }
            Some(kind) => kind,
            None => self.particular_kind().unwrap_or_else(|| {
                let is_request = self.has("invalid_request_error") || self.has("bad_request");
                if is_request { FailureKind::InvalidRequest } else { FailureKind::Unavailable }
            }),
        }
    }

    fn particular_kind(&self) -> Option<FailureKind> {
        const CODES: [(&str, FailureKind); 15] = [
            ("context_length_exceeded", FailureKind::ContextLength),
            ("exceed_context_size_error", FailureKind::ContextLength),
            ("content_policy_violation", FailureKind::ContentPolicy),
            ("content_policy", FailureKind::ContentPolicy),
            ("content_filter", FailureKind::ContentPolicy),
            ("rate_limit_exceeded", FailureKind::RateLimited),
            ("rate_limit_error", FailureKind::RateLimited),
            ("insufficient_quota", FailureKind::RateLimited),
            ("billing_hard_limit_reached", FailureKind::RateLimited),
            ("invalid_api_key", FailureKind::Auth),
            ("authentication_error", FailureKind::Auth),
            ("permission_error", FailureKind::Auth),
            ("model_not_found", FailureKind::NotFound),
            // The model's tool call, or its JSON, does not fit: with another seed it may.
            ("tool_use_failed", FailureKind::Malformed),
            ("json_validate_failed", FailureKind::Malformed),
        ];
        const OVERFLOWS: [&str; 5] = [
            "maximum context length",
            "context length exceeded",
            "exceeds the available context size",
            "context window",
            "prompt is too long",
        ];
        CODES.iter().find(|(code, _)| self.has(code)).map(|&(_, kind)| kind).or_else(|| {
            let message = self.message.as_ref()?.to_ascii_lowercase();
            OVERFLOWS.iter().any(|words| message.contains(words)).then_some(FailureKind::ContextLength)
        })
    }
}

/// `detail` is a string, or a list of validation errors with a `msg` each.
fn detail(detail: &Value) -> Option<String> {
    match detail {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let said: Vec<&str> = items.iter().filter_map(|item| item.get("msg")?.as_str()).collect();
            (!said.is_empty()).then(|| said.join("; "))
        }
        _ => None,
    }
}
