//! What Bedrock says of an error, and which of our failures that is.

use serde::Deserialize;
use serde_json::Value;

use super::fault::{
    Exception, QUOTA, is_content_policy, is_of_the_day, is_overflow, is_unknown_model, is_unknown_name, param_at_fault,
};
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
            FailureKind::Auth if self.is_about_permission() => {
                " (the credentials may not call this model: the account has no access to the model, or the policy does \
                 not allow the call)"
                    .to_owned()
            }
            FailureKind::Auth => format!(" and refused {}", upstream.wording.key),
            FailureKind::NotFound if self.is_about_the_name() => {
                " (the region that is called has no model and no inference profile of this name; `model` and \
                 `extra_args.aws_region_name` of /configure say which)"
                    .to_owned()
            }
            _ => String::new(),
        };
        let words = self.words();
        // What we know to be secret first: of what is cut out of its middle, the rest would not be known.
        let message =
            strike(&upstream.clean(&format!("{opening}{} answered {answered}{refused}: {words}", upstream.name)));
        let param = match kind {
            FailureKind::InvalidRequest => self.message.as_deref().and_then(param_at_fault),
            _ => None,
        };
        let failure = Failure { status: self.status, param, ..Failure::new(kind, message) };
        let attempt = AttemptFailure { is_verdict: self.is_verdict(kind), ..AttemptFailure::from(failure) };
        match self.code.as_deref() {
            // It does not pass by waiting: AWS's own clients do not repeat it either.
            _ if self.is_used_up() => AttemptFailure { may_retry: false, ..attempt }.refused(),
            // The SDK learns AWS's time from the refusal, and signs with it from then on.
            Some("InvalidSignatureException") if self.is_about_time() => {
                AttemptFailure { may_retry: true, ..attempt }.refused()
            }
            // The model was at it.
            Some("ModelErrorException" | "ModelStreamErrorException" | "ModelTimeoutException") => attempt,
            _ => attempt.refused(),
        }
    }

    /// Whether nothing has the name that was asked for.
    fn is_about_the_name(&self) -> bool {
        is_unknown_name(&self.message.as_deref().unwrap_or_default().to_ascii_lowercase())
    }

    /// Whether AWS knows who calls, who may not do this.
    fn is_about_permission(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        let words = ["access to the model", "model access", "not authorized to perform", "not authorized to invoke"];
        self.code.as_deref().is_some_and(|code| code.starts_with("AccessDenied"))
            && words.iter().any(|words| message.contains(words))
    }

    /// Whether a quota is used up that no short pause brings back. That of a day has the name of what passes in a minute.
    fn is_used_up(&self) -> bool {
        match self.code.as_deref() {
            Some(QUOTA) => true,
            code => {
                let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
                code.and_then(Exception::named) == Some(Exception::Throttled) && is_of_the_day(&message)
            }
        }
    }

    /// Whether the signature is of another time than AWS's.
    fn is_about_time(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        ["Signature expired", "Signature not yet current"].iter().any(|words| message.starts_with(words))
    }

    /// What is passed on of what was said.
    fn words(&self) -> String {
        let message = self.message.as_deref();
        let mut words = match self.code.as_deref() {
            // They quote the header that proves who asks, in words that come and go.
            Some("IncompleteSignatureException" | "IncompleteSignature") => {
                "the signature did not arrive whole; does something on the way change headers?".to_owned()
            }
            _ => match message.filter(|message| !message.is_empty()) {
                Some(message) => message.to_owned(),
                None if self.status.is_some_and(|status| (300..400).contains(&status)) => {
                    "a redirect, which is not followed; the address that is set must be the final one".to_owned()
                }
                None => "no reason given".to_owned(),
            },
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
        match self.code.as_deref().and_then(Exception::named) {
            Some(Exception::Kind(kind)) => kind,
            Some(Exception::Throttled) => FailureKind::RateLimited,
            Some(Exception::Refused) => self.kind_of_refusal(),
            // What the model's server says of a request holds for the model, if that is what it says.
            Some(Exception::OfModel) => match self.original_status {
                Some(429) => FailureKind::RateLimited,
                Some(400 | 413 | 422) => self.kind_of_refusal(),
                _ => FailureKind::Unavailable,
            },
            None => match self.status.map_or(FailureKind::Unavailable, by_status) {
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
            // Some services throttle with the status of a refusal.
            FailureKind::RateLimited => self.is_used_up() || self.status == Some(402),
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

#[cfg(test)]
mod tests {
    use super::super::draft::tests::upstream;
    use super::*;
    use FailureKind::{
        Auth, ContentPolicy, ContextLength, InvalidRequest, NotFound, RateLimited, Timeout, Unavailable,
    };

    fn response(status: u16, error_type: &str, message: &str) -> AttemptFailure {
        let body = serde_json::json!({ "message": message }).to_string();
        Said::of_response(status, Some(error_type), body.as_bytes()).failure(&upstream())
    }

    #[test]
    fn every_exception_is_one_of_our_failures_and_may_be_repeated_or_not() {
        // Whether it may be made again, whether nothing was spent, and whether the upstream is well.
        for (status, error_type, kind, may_retry, was_refused, is_verdict) in [
            (429, "ThrottlingException", RateLimited, true, true, false),
            (400, "ThrottlingException", RateLimited, true, true, false),
            (400, "ServiceQuotaExceededException", RateLimited, false, true, true),
            (429, "ModelNotReadyException", Unavailable, true, true, false),
            (408, "ModelTimeoutException", Timeout, true, false, false),
            (424, "ModelErrorException", Unavailable, true, false, false),
            (424, "ModelStreamErrorException", Unavailable, true, false, false),
            (500, "InternalServerException", Unavailable, true, true, false),
            (500, "InternalFailure", Unavailable, true, true, false),
            (503, "ServiceUnavailableException", Unavailable, true, true, false),
            (400, "ValidationException", InvalidRequest, false, true, true),
            (400, "SerializationException", InvalidRequest, false, true, true),
            (403, "AccessDeniedException", Auth, false, true, true),
            (403, "UnrecognizedClientException", Auth, false, true, true),
            (403, "InvalidSignatureException", Auth, false, true, true),
            (403, "IncompleteSignatureException", Auth, false, true, true),
            (403, "MissingAuthenticationTokenException", Auth, false, true, true),
            // Some services say it with another status.
            (400, "ExpiredTokenException", Auth, false, true, true),
            (404, "ResourceNotFoundException", NotFound, false, true, true),
            (404, "UnknownOperationException", NotFound, false, true, true),
            // By their status alone.
            (403, "SomethingNew", Auth, false, true, true),
            (413, "SomethingNew", InvalidRequest, false, true, true),
            (529, "SomethingNew", Unavailable, true, true, false),
        ] {
            for name in [error_type.to_owned(), format!("{error_type}:http://internal.amazon.com/coral/")] {
                let attempt = response(status, &name, "words");
                assert_eq!(attempt.failure.kind, kind, "{error_type}");
                assert_eq!(
                    (attempt.may_retry, attempt.was_refused, attempt.is_verdict),
                    (may_retry, was_refused, is_verdict),
                    "{error_type}"
                );
                let message = &attempt.failure.message;
                assert!(message.starts_with(&format!("bedrock answered {status} {error_type}")), "{message}");
            }
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_words_where_its_name_is_a_general_one() {
        for (message, kind) in [
            ("The model returned the following errors: Input is too long for requested model.", ContextLength),
            ("The provided model identifier is invalid.", NotFound),
            ("Output blocked by content filtering policy", ContentPolicy),
            ("messages: at least one message is required", InvalidRequest),
        ] {
            assert_eq!(response(400, "ValidationException", message).failure.kind, kind, "{message}");
        }
        let overflow = response(400, "ValidationException", "Input is too long for requested model.").failure;
        assert_eq!(
            overflow.message,
            "Input exceeds maximum context length: bedrock answered 400 ValidationException: Input is too long for \
             requested model."
        );
        let message = response(400, "ValidationException", "The provided model identifier is invalid.").failure.message;
        assert!(message.contains("no inference profile of this name"), "{message}");
        let retired = response(404, "ResourceNotFoundException", "This model version has reached the end of its life.");
        assert!(
            retired.failure.message.starts_with("bedrock answered 404 ResourceNotFoundException: This"),
            "{retired:?}"
        );
        // Too many of them a minute is something else.
        let throttled = response(429, "ThrottlingException", "Too many tokens, please wait before trying again.");
        assert_eq!((throttled.failure.kind, throttled.may_retry), (RateLimited, true));
        for message in ["Too many tokens per day, please wait before trying again.", "Daily token limit reached"] {
            let of_the_day = response(429, "ThrottlingException", message);
            assert_eq!((of_the_day.failure.kind, of_the_day.may_retry), (RateLimited, false), "{message}");
            assert!(of_the_day.is_verdict && of_the_day.was_refused, "{message}");
        }
        assert!(response(503, "ServiceUnavailableException", "ask again, per day or not").may_retry);
    }

    #[test]
    fn credentials_that_are_right_but_may_not_are_told_from_wrong_ones() {
        for (message, may_not) in [
            ("You don't have access to the model with the specified model ID.", true),
            ("User: me is not authorized to perform: bedrock:InvokeModel on resource: x", true),
            ("Model access is denied: not authorized to perform the required AWS Marketplace actions", true),
            ("Authentication failed: Please make sure your API Key is valid.", false),
        ] {
            let failure = response(403, "AccessDeniedException", message).failure;
            assert_eq!(failure.kind, Auth, "{message}");
            let told = failure.message;
            assert_eq!(told.contains("the credentials may not call this model"), may_not, "{told}");
            assert_eq!(told.contains("refused"), !may_not, "{told}");
            assert!(told.ends_with(message), "{told}");
        }
        let unknown = response(403, "UnrecognizedClientException", "not authorized to perform").failure.message;
        assert!(unknown.contains("refused the key"), "{unknown}");
    }

    #[test]
    fn what_the_models_own_server_said_counts() {
        for (original, kind) in [
            (Some(429), RateLimited),
            (Some(400), InvalidRequest),
            (Some(422), InvalidRequest),
            (Some(500), Unavailable),
            (Some(529), Unavailable),
            (Some(404), Unavailable),
            (None, Unavailable),
        ] {
            let payload = serde_json::json!({
                "message": "broken", "originalStatusCode": original, "originalMessage": "it fell over"
            });
            let attempt =
                Said::of_exception("modelStreamErrorException", payload.to_string().as_bytes()).failure(&upstream());
            assert_eq!(attempt.failure.kind, kind, "{original:?}");
            let message = attempt.failure.message;
            let told = "bedrock answered ModelStreamErrorException: broken (it fell over)";
            assert!(message.starts_with(told), "{message}");
            assert_eq!(message.contains("[the model's server answered"), original.is_some(), "{message}");
        }
    }

    #[test]
    fn a_name_is_found_wherever_aws_puts_it() {
        let kind = |body: &str| Said::of_response(400, None, body.as_bytes()).failure(&upstream()).failure;
        for body in [
            r#"{"__type":"com.amazon.coral.service#ThrottlingException","Message":"slow down"}"#,
            r#"{"code":"ThrottlingException","message":"slow down"}"#,
            r#"{"__type":"ThrottlingException","errorMessage":"slow down"}"#,
        ] {
            assert_eq!(kind(body).message, "bedrock answered 400 ThrottlingException: slow down");
        }
        let unknown =
            kind(r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#);
        assert_eq!(
            (unknown.kind, &*unknown.message),
            (NotFound, "bedrock answered 400 UnknownOperationException: no reason given")
        );
    }

    #[test]
    fn bodies_of_gateways_are_read_as_far_as_they_can_be() {
        for (body, said) in [
            ("", "no reason given"),
            ("<html><body>Bad Gateway</body></html>", "a page of HTML instead of JSON"),
            ("upstream connect error", "upstream connect error"),
            ("7", "7"),
            (r#"{"message":null}"#, "no reason given"),
        ] {
            let attempt = Said::of_response(502, None, body.as_bytes()).failure(&upstream());
            assert_eq!(attempt.failure.message, format!("bedrock answered 502: {said}"));
            assert_eq!(attempt.failure.kind, Unavailable);
        }
    }

    #[test]
    fn errors_within_a_stream_are_known_by_name() {
        let throttled = Said::of_exception("throttlingException", br#"{"message":"slow down"}"#).failure(&upstream());
        assert_eq!(throttled.failure.message, "bedrock answered ThrottlingException: slow down");
        assert_eq!((throttled.failure.kind, throttled.failure.status), (RateLimited, None));
        let said = Said::of_error(Some("InternalFailure".to_owned()), Some("lost".to_owned()));
        assert_eq!(said.failure(&upstream()).failure.message, "bedrock answered InternalFailure: lost");
        let wordless = Said::of_exception("", b"nonsense").failure(&upstream()).failure;
        assert_eq!((wordless.kind, wordless.message.ends_with("no reason given")), (Unavailable, true));
    }
}
