//! Prompt caching: `cache_control`, as clients of Anthropic's and LiteLLM's write it, becomes a cache point.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{CacheKind, CachePoint};
use super::read;
use crate::failure::Failure;

/// The most cache points that a request may have.
pub(super) const MOST: usize = 4;

/// The cache point that the `cache_control` of this place asks for.
///
/// # Errors
///
/// What is no such object, and a time that there is not.
pub(super) fn point(place: &str, raw: &RawValue) -> Result<CachePoint, Failure> {
    #[derive(Deserialize)]
    struct Control {
        r#type: String,
        ttl: Option<String>,
    }
    let control: Control = read(place, raw)?;
    if control.r#type != "ephemeral" {
        let message = format!("`{place}.type` must be `ephemeral`, which is the only kind of cache there is");
        return Err(Failure::invalid_param(&format!("{place}.type"), message));
    }
    let ttl = match control.ttl.as_deref() {
        None => None,
        Some("5m") => Some("5m"),
        Some("1h") => Some("1h"),
        Some(_) => {
            let message = format!("`{place}.ttl` must be `5m` or `1h`");
            return Err(Failure::invalid_param(&format!("{place}.ttl"), message));
        }
    };
    Ok(CachePoint { r#type: CacheKind::Default, ttl, place: place.into() })
}
