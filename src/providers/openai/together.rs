//! Several candidates in one call, by the parameter `n`, so that one prompt is paid for.
//!
//! Servers differ: some honour `n`, some take it and answer once, some refuse it. Nothing is believed: who asks counts
//! what came back, and what a server was seen to do is remembered for a while for whoever calls it there.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::response::{self, Several};
use super::server::Server;
use super::{PreparedRequest, Provider};
use crate::completion::Completion;
use crate::config::calls::UseN;
use crate::config::capabilities::Support;
use crate::failure::{Failure, FailureKind};
use crate::providers::attempts::{Attempt, Attempts};
use crate::providers::gate::Pulse;
use crate::providers::habits::Habits;
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::MAX_BODY_BYTES;

/// The most choices of one call wherever no other limit is known, which is OpenAI's own.
const MOST_CHOICES: u16 = 128;

/// Why none of several candidates came.
#[derive(Debug)]
pub struct NoneCame {
    pub failure: Failure,
    /// A server's refusal, where that may be because they were several. It shows when one alone is answered.
    pub refusal: Option<Refusal>,
}

/// A server refused a call for several candidates.
#[derive(Debug)]
pub struct Refusal {
    habits: Arc<Habits>,
    model: Arc<str>,
}

impl Refusal {
    /// Remembers that the server takes no call for several candidates of the model.
    pub fn was_for_several(&self) {
        self.habits.refused(&self.model, Instant::now());
    }
}

impl Provider {
    /// How many candidates to ask a model for in one call; 1 where each is to be a call of its own, be it because the
    /// configuration says so, the server is not known to honour `n`, or it was seen not to. Of several servers any may
    /// get the call, so that the one that brings the fewest says how many.
    pub fn most_together(&self, model: &str) -> usize {
        let row = self.capabilities(model);
        let is_wanted = match self.pool.calls.use_n {
            UseN::Never => false,
            UseN::Always => true,
            UseN::Auto => row.n == Support::Yes,
        };
        if !is_wanted {
            return 1;
        }
        let told = usize::from(row.max_n.unwrap_or(MOST_CHOICES).max(1));
        let now = Instant::now();
        let seen = self.pool.members.iter().filter_map(|server| server.habits.most_choices(model, now));
        seen.min().map_or(told, |seen| seen.min(told))
    }

    /// Asks for `count` candidates in one call, and returns those that came: at least one, maybe fewer than were asked
    /// for, and none that was not. An attempt that fails is made again as a whole. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete`], with the refusal where single calls may fare better. A candidate that came and cannot
    /// be read fails alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub async fn complete_several(
        &self,
        request: &PreparedRequest,
        count: usize,
        seed: Option<i64>,
        told: impl FnMut(Attempt) + Send,
    ) -> Result<Vec<Result<Completion, Failure>>, NoneCame> {
        let mut told = self.pool.counted(told);
        let mut attempts =
            Attempts::new(&self.pool, request.caller().clone(), request.model()).seeded(request.sends(seed));
        let refused_by = Mutex::new(None);
        let refused_by = &refused_by;
        let once = |server: Arc<Server>, pulse: Pulse| async move {
            let in_other_words = |attempt| {
                let attempt = in_other_words(attempt);
                if Self::may_refuse_several(&attempt.failure) {
                    *refused_by.lock() = Some(Arc::clone(&server.habits));
                }
                attempt
            };
            let target = server.address.chat(&request.model());
            let began = Instant::now();
            let mut answer = server.send(&target, request.several(count, seed)).await.map_err(in_other_words)?;
            pulse.felt();
            self.pool.metrics.first_token(began.elapsed());
            let body = answer.body(MAX_BODY_BYTES).await?.ok_or_else(|| server.upstream.too_large("body"))?;
            let content_type = answer.content_type();
            response::read_several(&body, content_type, count, request.readers(), &server.upstream)
                .map_err(in_other_words)
        };
        let (Several { choices, usage }, turn) = match attempts.make(&self.pool, &mut told, once).await {
            Ok(answer) => answer,
            Err(failure) => {
                let habits = refused_by.lock().take().filter(|_| Self::may_refuse_several(&failure));
                let refusal = habits.map(|habits| Refusal { habits, model: request.model() });
                return Err(NoneCame { failure, refusal });
            }
        };
        turn.server.habits.brought(&request.model(), count, choices.len(), Instant::now());
        attempts.answered(turn);
        told(match count - choices.len() {
            0 => Attempt::Answered(usage),
            missing => Attempt::AnsweredInPart { usage, missing },
        });
        Ok(choices)
    }

    /// Whether a server that refused several candidates in one call in this way may have done so because they were
    /// several. It shows when one alone is answered.
    pub fn may_refuse_several(failure: &Failure) -> bool {
        matches!(failure.kind, FailureKind::InvalidRequest | FailureKind::NotSupported)
    }
}

/// The failure of an attempt, as what it is: older builds of llama-server call it an error of their own that somebody
/// asks for several choices, and 501 says that it is not implemented. Neither passes.
fn in_other_words(attempt: AttemptFailure) -> AttemptFailure {
    const NOT_IMPLEMENTED: u16 = 501;
    const OWN_ERROR: &str = "only one completion choice is allowed";
    let failure = &attempt.failure;
    let is_refusal = failure.kind == FailureKind::Unavailable
        && (failure.status == Some(NOT_IMPLEMENTED) || failure.message.to_ascii_lowercase().contains(OWN_ERROR));
    if !is_refusal {
        return attempt;
    }
    let failure = Failure { kind: FailureKind::NotSupported, ..attempt.failure };
    AttemptFailure { failure, may_retry: false, ..attempt }
}
