//! Errors in the words and shapes of each server.

use serde_json::{Value, json};

use super::profile::{ErrorShape, Profile};

/// Why a request is refused, before it takes a server's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<String>,
    pub message: String,
}

/// A refusal as it goes over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorBody {
    pub status: u16,
    pub content_type: &'static str,
    pub text: String,
}

impl Refusal {
    /// OpenAI's 400.
    pub fn invalid(param: Option<&str>, code: Option<&str>, message: &str) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            param: param.map(str::to_owned),
            code: code.map(str::to_owned),
            message: message.to_owned(),
        }
    }

    /// What a server says with this status when nothing more is known.
    pub fn of_status(status: u16) -> Self {
        let (kind, code, message) = match status {
            400 => ("invalid_request_error", None, "The request could not be understood."),
            401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
            402 => ("insufficient_quota", Some("insufficient_quota"), "Insufficient credits. Add more to go on."),
            403 => ("permission_error", None, "Your key has no permission for this model."),
            404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
            413 => {
                ("tokens", Some("rate_limit_exceeded"), "Request too large for the model: Limit 6000, Requested 6500.")
            }
            422 => ("invalid_request_error", None, "A field has the wrong type."),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached for requests. Try again later."),
            503 => ("server_error", None, "That model is currently overloaded with other requests."),
            _ => ("server_error", None, "The server had an error while processing your request."),
        };
        Self { status, kind, param: None, code: code.map(str::to_owned), message: message.to_owned() }
    }

    /// The refusal as this server says it.
    pub fn body(&self, profile: Profile) -> ErrorBody {
        let Self { status, kind, param, code, message } = self;
        let openai = json!({"message": message, "type": kind, "param": param, "code": code});
        let json =
            |status: u16, body: Value| ErrorBody { status, content_type: "application/json", text: body.to_string() };
        match profile.quirks().errors {
            ErrorShape::OpenAi => json(*status, json!({ "error": openai })),
            ErrorShape::In200 => {
                json(200, json!({"error": {"message": message, "type": kind, "param": param, "code": status}}))
            }
            ErrorShape::Azure if *status == 400 => json(400, json!({ "error": openai })),
            ErrorShape::Azure => {
                // A refused deployment is named by a word, the rest by the status.
                let code =
                    code.clone().filter(|code| code == "DeploymentNotFound").unwrap_or_else(|| status.to_string());
                json(*status, json!({"error": {"code": code, "message": message}}))
            }
            ErrorShape::NumericCode => json(*status, json!({"error": {"message": message, "code": status}})),
            ErrorShape::Groq => {
                let mut error = json!({"message": message, "type": kind});
                if let Some(code) = code {
                    error["code"] = json!(code);
                }
                json(*status, json!({ "error": error }))
            }
            ErrorShape::Together => json(*status, json!({"id": "nrFCEPD-2kFHot", "error": openai})),
            ErrorShape::MessageOnly => json(*status, json!({"error": {"message": message}})),
            ErrorShape::Text => json(*status, json!({ "error": message })),
            ErrorShape::Flat => {
                let kind = match status {
                    400 => "BadRequestError",
                    401 => "AuthenticationError",
                    404 => "NotFoundError",
                    429 => "TooManyRequests",
                    _ => "InternalServerError",
                };
                json(
                    *status,
                    json!({"object": "error", "message": message, "type": kind, "param": param, "code": status}),
                )
            }
            ErrorShape::LlamaServer => {
                let hides = profile == Profile::LlamaServer && !matches!(status, 401 | 503);
                let on_the_wire = if hides { 500 } else { *status };
                let kind = match status {
                    401 => "authentication_error",
                    503 => "unavailable_error",
                    400..500 => "invalid_request_error",
                    _ => "server_error",
                };
                json(on_the_wire, json!({"error": {"code": status, "message": message, "type": kind}}))
            }
            ErrorShape::FastApi if *status == 401 => json(401, json!({"detail": "Unauthorized"})),
            ErrorShape::FastApi => ErrorBody {
                status: if *status < 500 { 500 } else { *status },
                content_type: "text/plain; charset=utf-8",
                text: "Internal Server Error".to_owned(),
            },
            ErrorShape::Google => {
                let word = match status {
                    400 => "INVALID_ARGUMENT",
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    503 => "UNAVAILABLE",
                    _ => "INTERNAL",
                };
                json(*status, json!([{"error": {"code": status, "message": message, "status": word}}]))
            }
            ErrorShape::Html => ErrorBody {
                status: *status,
                content_type: "text/html",
                text: format!(
                    "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
                     <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
                ),
            },
        }
    }
}
