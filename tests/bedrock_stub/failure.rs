//! Errors as AWS sends them: a JSON `message`, and the name in `x-amzn-errortype`.

use serde::Deserialize;
use serde_json::{Value, json};

/// An error of the service. In a script `{"kind": "ThrottlingException"}` is enough.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failure {
    /// Its name, such as `ThrottlingException`.
    pub kind: String,
    /// What the service says, unless given.
    pub message: Option<String>,
    /// What the model's own server said with, in `ModelErrorException` and `ModelStreamErrorException`.
    pub original_status: Option<u16>,
    /// In a stream, an error that the service model does not know rather than an exception that it does.
    pub unmodelled: bool,
}

impl Failure {
    pub fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    pub fn saying(kind: &str, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::new(kind) }
    }

    pub fn validation(message: impl Into<String>) -> Self {
        Self::saying("ValidationException", message)
    }

    /// What a model says of a request that the service has let through.
    pub fn of_model(message: &str) -> Self {
        Self::validation(format!("The model returned the following errors: {message}"))
    }

    /// The status that this error has, from the service model and, of errors that are common to services, from AWS's
    /// list of them.
    pub fn status(&self) -> u16 {
        match self.kind.as_str() {
            "ValidationException" | "SerializationException" | "ServiceQuotaExceededException" => 400,
            "AccessDeniedException"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "UnrecognizedClientException" => 403,
            "ResourceNotFoundException" | "UnknownOperationException" => 404,
            "ModelTimeoutException" => 408,
            "ModelErrorException" | "ModelStreamErrorException" => 424,
            "ThrottlingException" | "ModelNotReadyException" => 429,
            "ServiceUnavailableException" => 503,
            _ => 500,
        }
    }

    /// The value of `x-amzn-errortype`. What the service itself throws has its namespace behind it; what the layer that
    /// knows callers throws has not.
    pub fn error_type(&self) -> String {
        match self.kind.as_str() {
            "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "UnrecognizedClientException" => self.kind.clone(),
            kind => format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"),
        }
    }

    /// The JSON of a body or of an exception's payload.
    pub fn body(&self) -> Value {
        let mut body = json!({ "message": self.message() });
        if let Some(status) = self.original_status {
            body["originalStatusCode"] = json!(status);
            if self.kind == "ModelStreamErrorException" {
                body["originalMessage"] = json!(format!("the model's server answered {status}"));
            }
        }
        body
    }

    pub fn message(&self) -> String {
        self.message.clone().unwrap_or_else(|| usual_message(&self.kind).to_owned())
    }

    /// The name as a member of a stream: it begins with a small letter.
    pub fn member_name(&self) -> String {
        let mut letters = self.kind.chars();
        letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
    }
}

fn usual_message(kind: &str) -> &'static str {
    match kind {
        "AccessDeniedException" => "You don't have access to the model with the specified model ID.",
        "ExpiredTokenException" => "The security token included in the request is expired",
        "InvalidSignatureException" => {
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details."
        }
        "MissingAuthenticationTokenException" => "Missing Authentication Token",
        "ModelErrorException" => {
            "The system encountered an unexpected error during processing. Try your request again."
        }
        "ModelNotReadyException" => {
            "Model is not ready for inference. Wait and try your request again. Refer to \
             https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html"
        }
        "ModelStreamErrorException" => {
            "The system encountered an unexpected error during processing. Try your request again."
        }
        "ModelTimeoutException" => "Model has timed out in processing the request. Try your request again.",
        "ResourceNotFoundException" => "Could not resolve the foundation model from the provided model identifier.",
        "ServiceQuotaExceededException" => "Your request exceeds the service quota for your account.",
        "ServiceUnavailableException" => "Bedrock is unable to process your request.",
        "ThrottlingException" => "Too many requests, please wait before trying again.",
        "UnrecognizedClientException" => "The security token included in the request is invalid.",
        "ValidationException" => "The provided model identifier is invalid.",
        _ => "The system encountered an unexpected error during processing. Try your request again.",
    }
}
