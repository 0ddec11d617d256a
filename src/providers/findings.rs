//! What a server was found to do when it was asked itself, and how long that may take.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use super::retry::AttemptFailure;
use super::upstream::Upstream;
use crate::failure::{Failure, FailureKind};

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// By the columns of the table, as a configuration would say it.
    pub cells: Map<String, Value>,
    /// What could not be found out, and why.
    pub notes: Vec<String>,
    /// Calls that were made.
    pub calls: usize,
}

/// One call is not waited for longer.
const MAX_CALL: Duration = Duration::from_secs(30);
/// All of them together are not. What was learnt by then is kept.
pub(super) const MAX_ALL: Duration = Duration::from_secs(60);

/// Waits for the answer to one question of several, which have to be done by `deadline`.
pub(super) async fn in_time<T>(
    deadline: Instant,
    upstream: &Upstream,
    asked: impl Future<Output = Result<T, AttemptFailure>>,
) -> Result<T, Failure> {
    let wait = MAX_CALL.min(deadline.saturating_duration_since(Instant::now()));
    match timeout(wait, asked).await {
        Ok(asked) => asked.map_err(|attempt| attempt.failure),
        Err(_) => {
            let name = &upstream.name;
            let message = match wait == MAX_CALL {
                true => format!("{name} did not answer within {} s", MAX_CALL.as_secs()),
                false => format!("{name} did not answer all questions within {} s", MAX_ALL.as_secs()),
            };
            Err(Failure::new(FailureKind::Timeout, message))
        }
    }
}
