//! What one request may spend at most.

use std::time::Duration;

use serde_json::Value;

use super::field::{self, SettingsError};
use super::fields::LIMITS;

/// What one request may spend. On exhaustion the best answer so far wins.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// From the request's arrival.
    pub deadline: Option<Duration>,
    /// Prompt and completion tokens over all calls.
    pub max_total_tokens: Option<u64>,
    pub max_cost_usd: Option<f64>,
    pub max_candidates: Option<usize>,
}

impl Limits {
    /// Reads the field `limits`.
    ///
    /// # Errors
    ///
    /// What is no object, a member that nobody knows, and a value out of its range.
    pub fn parse(value: &Value) -> Result<Self, SettingsError> {
        let mut limits = Self::default();
        for (name, value) in field::object("limits", value)? {
            let Some(member) = LIMITS.iter().find(|member| member.name == name) else {
                return Err(SettingsError::unknown_member("limits", name, LIMITS.iter().map(|member| member.name)));
            };
            if value.is_null() {
                continue;
            }
            let param = format!("limits.{name}");
            let integer = || member.integer(&param, value);
            match name.as_str() {
                "deadline_ms" => limits.deadline = Some(Duration::from_millis(integer()?.cast_unsigned())),
                "max_total_tokens" => limits.max_total_tokens = Some(integer()?.cast_unsigned()),
                "max_cost_usd" => limits.max_cost_usd = Some(member.number(&param, value)?),
                _ => limits.max_candidates = Some(integer()? as usize),
            }
        }
        Ok(limits)
    }

    /// These limits and `other` at once: of each the tighter. A request may spend less than the configuration
    /// allows, never more.
    #[must_use]
    pub fn tightened_by(self, other: Self) -> Self {
        fn tighter<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(if other < one { other } else { one }),
                (one, other) => one.or(other),
            }
        }
        Self {
            deadline: tighter(self.deadline, other.deadline),
            max_total_tokens: tighter(self.max_total_tokens, other.max_total_tokens),
            max_cost_usd: tighter(self.max_cost_usd, other.max_cost_usd),
            max_candidates: tighter(self.max_candidates, other.max_candidates),
        }
    }
}
