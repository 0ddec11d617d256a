//! How calls to a remote provider are made: how many at a time, how long each may take, and what is done about
//! those that fail.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::field::{self, SettingsError};
use super::fields::{self, BREAKER};
use super::word::words;

words! {
    /// When several candidates are asked for in one call, by the parameter `n`.
    pub enum UseN {
        /// Where the provider is known to honour it.
        Auto = "auto",
        /// Always: what comes back is counted, and what is missing asked for again.
        Always = "always",
        Never = "never",
    }
}

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallSettings {
    /// Calls to one upstream at a time, 1 to 4096.
    pub n_parallel: usize,
    /// Requests that may wait for a place among them; a further one is refused at once.
    pub max_queued: usize,
    /// Until the connection is there, TLS included.
    pub connect_timeout: Duration,
    /// From the beginning of an attempt to the first byte of its answer's body, or to the first event of a stream.
    pub first_byte_timeout: Option<Duration>,
    /// The longest silence within an answer: without a byte, or in a stream without an event.
    pub idle_timeout: Duration,
    /// One attempt, from the request's first byte to the answer's last.
    pub timeout: Duration,
    /// Attempts after the first, 0 to 20.
    pub max_retries: u32,
    /// Retries as a share of calls, over all requests to an upstream.
    pub retry_budget: f64,
    /// `None` where it is off.
    pub breaker: Option<BreakerSettings>,
    pub use_n: UseN,
    /// Whether HTTP/2 is spoken: over TLS where the server offers it, and to any server without TLS.
    pub http2: bool,
}

/// When a target that fails is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// The share of failed attempts from which it opens, above 0 and up to 1.
    pub failure_share: f64,
    /// Attempts within the window below which it stays closed.
    pub min_calls: u32,
    /// What is looked back on.
    pub window: Duration,
    /// How long it stays open before a probe is let through.
    pub cool_down: Duration,
}

/// The fields of a configuration that are read here.
pub const FIELDS: &[&str] = &[
    "n_parallel",
    "max_queued",
    "connect_timeout_ms",
    "first_byte_timeout_ms",
    "idle_timeout_ms",
    "timeout_ms",
    "max_retries",
    "retry_budget",
    "breaker",
    "use_n",
    "http2",
];

impl CallSettings {
    /// Reads these fields of a configuration.
    ///
    /// # Errors
    ///
    /// The first of the wrong type or out of range.
    pub fn parse(named: &BTreeMap<&str, &Value>) -> Result<Self, SettingsError> {
        let mut calls = Self::default();
        for (&name, &value) in named.iter().filter(|(name, _)| FIELDS.contains(name)) {
            let count = || fields::integer(name, value).map(|count| count as usize);
            let duration = || fields::integer(name, value).map(|ms| Duration::from_millis(ms.cast_unsigned()));
            match name {
                "n_parallel" => calls.n_parallel = count()?,
                "max_queued" => calls.max_queued = count()?,
                "connect_timeout_ms" => calls.connect_timeout = duration()?,
                "first_byte_timeout_ms" => calls.first_byte_timeout = Some(duration()?),
                "idle_timeout_ms" => calls.idle_timeout = duration()?,
                "timeout_ms" => calls.timeout = duration()?,
                "max_retries" => calls.max_retries = count()? as u32,
                "retry_budget" => calls.retry_budget = fields::number(name, value)?,
                "breaker" => calls.breaker = BreakerSettings::parse(value)?,
                "use_n" => calls.use_n = UseN::parse(name, value)?,
                _ => calls.http2 = field::boolean(name, value)?,
            }
        }
        Ok(calls)
    }
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            n_parallel: 32,
            max_queued: 1024,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: None,
            idle_timeout: Duration::from_secs(120),
            timeout: Duration::from_secs(600),
            max_retries: 3,
            retry_budget: 0.2,
            breaker: Some(BreakerSettings::default()),
            use_n: UseN::Auto,
            http2: false,
        }
    }
}

impl BreakerSettings {
    fn parse(value: &Value) -> Result<Option<Self>, SettingsError> {
        let mut breaker = Self::default();
        let mut enabled = true;
        for (name, value) in field::object("breaker", value)? {
            let Some(member) = BREAKER.iter().find(|member| member.name == name) else {
                return Err(SettingsError::unknown_member("breaker", name, BREAKER.iter().map(|member| member.name)));
            };
            if value.is_null() {
                continue;
            }
            let param = format!("breaker.{name}");
            let duration = || member.integer(&param, value).map(|ms| Duration::from_millis(ms.cast_unsigned()));
            match name.as_str() {
                "enabled" => enabled = field::boolean(&param, value)?,
                "failure_share" => breaker.failure_share = member.number(&param, value)?,
                "min_calls" => breaker.min_calls = member.integer(&param, value)? as u32,
                "window_ms" => breaker.window = duration()?,
                _ => breaker.cool_down = duration()?,
            }
        }
        Ok(enabled.then_some(breaker))
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failure_share: 0.5, min_calls: 20, window: Duration::from_secs(10), cool_down: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::fields::find;

    fn parse(document: &Value) -> Result<CallSettings, SettingsError> {
        let named = document.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value)).collect();
        CallSettings::parse(&named)
    }

    #[test]
    fn what_is_not_named_is_as_the_table_of_fields_says() {
        let defaults: serde_json::Map<String, Value> = FIELDS
            .iter()
            .map(|name| ((*name).to_owned(), serde_json::from_str(find(name).unwrap().default).unwrap()))
            .filter(|(_, value): &(String, Value)| !value.is_null())
            .collect();
        assert_eq!(parse(&Value::from(defaults)).unwrap(), CallSettings::default());
        let members: serde_json::Map<String, Value> = BREAKER
            .iter()
            .map(|member| (member.name.to_owned(), serde_json::from_str(member.default).unwrap()))
            .collect();
        assert_eq!(parse(&json!({"breaker": members})).unwrap(), CallSettings::default());
    }

    #[test]
    fn every_field_is_read() {
        let calls = parse(&json!({
            "n_parallel": 2, "max_queued": 0, "connect_timeout_ms": 3, "first_byte_timeout_ms": 4,
            "idle_timeout_ms": 5, "timeout_ms": 6, "max_retries": 7, "retry_budget": 0.5, "use_n": "never",
            "http2": true, "breaker": {"failure_share": 0.25, "min_calls": 1, "window_ms": 8, "cool_down_ms": 9}
        }))
        .unwrap();
        let ms = Duration::from_millis;
        let breaker = BreakerSettings { failure_share: 0.25, min_calls: 1, window: ms(8), cool_down: ms(9) };
        let expected = CallSettings {
            n_parallel: 2,
            max_queued: 0,
            connect_timeout: ms(3),
            first_byte_timeout: Some(ms(4)),
            idle_timeout: ms(5),
            timeout: ms(6),
            max_retries: 7,
            retry_budget: 0.5,
            breaker: Some(breaker),
            use_n: UseN::Never,
            http2: true,
        };
        assert_eq!(calls, expected);
        assert_eq!(parse(&json!({"breaker": {"enabled": false}})).unwrap().breaker, None);
        let error = parse(&json!({"breaker": {"failure_shar": 1}})).unwrap_err();
        assert!(error.message.contains("failure_share"), "{}", error.message);
        assert_eq!(parse(&json!({"breaker": {"failure_share": 0}})).unwrap_err().param, "breaker.failure_share");
    }
}
