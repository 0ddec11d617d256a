//! How a judge is asked, as far as its server has taught us.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::completion::MaxTokensName;
use crate::config::capabilities::StructuredOutput;
use crate::failure::{Failure, FailureKind};

/// What the server of a judge has taught us, for all who share the same one; clones learn together.
#[derive(Clone, Default)]
pub struct Lessons(Arc<Mutex<Option<Manner>>>);

/// Parameters that not every model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    pub format: StructuredOutput,
    pub with_temperature: bool,
    pub with_seed: bool,
    pub limit: MaxTokensName,
}

impl Lessons {
    /// The manner in which questions were answered; `None` before the first one was.
    pub(super) fn learnt(&self) -> Option<Manner> {
        *self.0.lock()
    }

    /// Keeps a manner in which a question was answered. Refusals alone teach nothing: what a server refuses to one
    /// question it may refuse for the question's sake.
    pub(super) fn keep(&self, manner: Manner) {
        let mut learnt = self.0.lock();
        *learnt = Some(learnt.map_or(manner, |before| before.and(manner)));
    }
}

impl fmt::Debug for Lessons {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Lessons").field(&self.learnt()).finish()
    }
}

impl Manner {
    /// With everything that we would like to send.
    pub fn with_all(format: StructuredOutput) -> Self {
        Self { format, with_temperature: true, with_seed: true, limit: MaxTokensName::MaxTokens }
    }

    /// The same without the parameter that a refusal is about; `None` when it is about something else. `sends_seed` says
    /// whether there was a seed to send.
    pub fn without_what_is_refused(self, failure: &Failure, sends_seed: bool) -> Option<Self> {
        if !matches!(failure.kind, FailureKind::InvalidRequest | FailureKind::NotSupported) {
            return None;
        }
        let said = format!("{} {}", failure.param.as_deref().unwrap_or_default(), failure.message).to_lowercase();
        let sends_format = self.format != StructuredOutput::Unsupported;
        let without_format = Self { format: StructuredOutput::Unsupported, ..self };
        if sends_format && said.contains("response_format") {
            Some(without_format)
        } else if self.with_temperature && said.contains("temperature") {
            // Reasoning models sample in a way of their own.
            Some(Self { with_temperature: false, ..self })
        } else if self.with_seed && sends_seed && said.contains("seed") {
            Some(Self { with_seed: false, ..self })
        } else if self.limit == MaxTokensName::MaxTokens && said.contains("max_completion_tokens") {
            Some(Self { limit: MaxTokensName::MaxCompletionTokens, ..self })
        } else if sends_format && said.contains("json") || self.format == StructuredOutput::Unknown {
            Some(without_format)
        } else {
            None
        }
    }

    /// What neither asks for more than the other.
    pub fn and(self, other: Self) -> Self {
        let humbler = |one, other| if one == StructuredOutput::Unsupported { one } else { other };
        Self {
            format: humbler(self.format, other.format),
            with_temperature: self.with_temperature && other.with_temperature,
            with_seed: self.with_seed && other.with_seed,
            limit: if self.limit == MaxTokensName::MaxTokens { other.limit } else { self.limit },
        }
    }
}
