//! Where a request wants to go besides its model's name: `provider` in its body, and the headers for an
//! endpoint and a key of its own.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::provider::ProviderName;
use crate::runtime::{API_KEY_HEADER, Destination, ENDPOINT_HEADER, RouteError};

use super::error::ApiError;

/// The destination of a request whose body names `provider`.
///
/// # Errors
///
/// A header that is there but says nothing.
pub fn of(request: &HttpRequest, provider: Option<ProviderName>) -> Result<Destination, ApiError> {
    let header = |name: &'static str| {
        let Some(value) = request.headers().get(name) else { return Ok(None) };
        // What cannot be read is not quoted: it may be a key.
        match value.to_str().map(str::trim) {
            Ok(text) if !text.is_empty() => Ok(Some(text)),
            _ => Err(ApiError::invalid_value(name, format!("`{name}` must be text of printable ASCII characters"))),
        }
    };
    Ok(Destination {
        provider,
        endpoint: header(ENDPOINT_HEADER)?.map(str::to_owned),
        api_key: header(API_KEY_HEADER)?.map(SecretString::from),
    })
}

/// Takes the name of a provider out of a body. An object is OpenRouter's and stays.
///
/// # Errors
///
/// What names no provider.
pub fn take_provider(fields: &mut BTreeMap<String, Box<RawValue>>) -> Result<Option<ProviderName>, ApiError> {
    const NAME: &str = "provider";
    if fields.get(NAME).is_none_or(|value| value.get().starts_with('{')) {
        return Ok(None);
    }
    let value = fields.remove(NAME).and_then(|value| serde_json::from_str(value.get()).ok());
    match value.unwrap_or(Value::Null) {
        Value::Null => Ok(None),
        value => Ok(Some(ProviderName::parse(NAME, &value)?)),
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        let message = error.to_string();
        match error {
            RouteError::Unknown(error) => error.into(),
            RouteError::Refused(error) => error.into(),
            RouteError::NotAllowed(header) => {
                let param = Some(header.to_owned());
                Self::new(StatusCode::FORBIDDEN, "permission_error", None, param, message)
            }
        }
    }
}
