//! Every form in which servers say when to come back.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// When to come back, and how that is said.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// `Retry-After: 2`.
    Seconds(u64),
    /// `Retry-After: 1.5`, which is not in the standard and is sent.
    Fraction(f64),
    /// `Retry-After` with the date so many seconds from now.
    Date(u64),
    /// `Retry-After` with a date that has gone by.
    PastDate,
    /// `retry-after-ms: 250`.
    Milliseconds(u64),
    /// `x-amz-retry-after: 250`, which is AWS's name of milliseconds.
    AwsMilliseconds(u64),
    /// `retry-after-ms: 250` beside a `Retry-After: 60`.
    Both(u64),
    /// `Retry-After: soon`.
    Nonsense,
    /// `Retry-After` of ten years.
    Huge,
}

impl RetryAfter {
    /// The headers that say it.
    pub fn headers(self) -> Vec<(String, String)> {
        let date = |date: SystemTime| httpdate::fmt_http_date(date);
        let (seconds, milliseconds) = match self {
            Self::Seconds(seconds) => (Some(seconds.to_string()), None),
            Self::Fraction(seconds) => (Some(seconds.to_string()), None),
            Self::Date(seconds) => (Some(date(SystemTime::now() + Duration::from_secs(seconds))), None),
            Self::PastDate => (Some(date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))), None),
            Self::AwsMilliseconds(milliseconds) | Self::Milliseconds(milliseconds) => {
                (None, Some(milliseconds.to_string()))
            }
            Self::Both(milliseconds) => (Some("60".to_owned()), Some(milliseconds.to_string())),
            Self::Nonsense => (Some("soon".to_owned()), None),
            Self::Huge => (Some((10_u64 * 365 * 24 * 3600).to_string()), None),
        };
        let named = |name: &str, value: Option<String>| value.map(|value| (name.to_owned(), value));
        let finer = if matches!(self, Self::AwsMilliseconds(_)) { "x-amz-retry-after" } else { "retry-after-ms" };
        [named("retry-after", seconds), named(finer, milliseconds)].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_headers() {
        let headers = |form: RetryAfter| {
            let headers = form.headers();
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(headers(RetryAfter::Seconds(2)), ["retry-after: 2"]);
        assert_eq!(headers(RetryAfter::Fraction(0.5)), ["retry-after: 0.5"]);
        assert_eq!(headers(RetryAfter::PastDate), ["retry-after: Sun, 06 Nov 1994 08:49:37 GMT"]);
        assert_eq!(headers(RetryAfter::Milliseconds(5)), ["retry-after-ms: 5"]);
        assert_eq!(headers(RetryAfter::AwsMilliseconds(5)), ["x-amz-retry-after: 5"]);
        assert_eq!(headers(RetryAfter::Both(5)), ["retry-after: 60", "retry-after-ms: 5"]);
        assert_eq!(headers(RetryAfter::Huge), ["retry-after: 315360000"]);
        assert_eq!(serde_json::from_str::<RetryAfter>(r#"{"seconds": 3}"#).unwrap(), RetryAfter::Seconds(3));
        assert_eq!(serde_json::from_str::<RetryAfter>(r#""nonsense""#).unwrap(), RetryAfter::Nonsense);
    }
}
