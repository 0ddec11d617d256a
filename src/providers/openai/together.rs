//! Several candidates in one call, by the parameter `n`, so that one prompt is paid for.
//!
//! Servers differ: some honour `n`, some take it and answer once, some refuse it. Nothing is believed: who asks counts
//! what came back, and what a server was seen to do is remembered.

use tokio::time::timeout;

use super::response::{self, Several};
use super::{Attempt, MAX_BODY_BYTES, PreparedRequest, Provider, content_type};
use crate::completion::Completion;
use crate::config::calls::UseN;
use crate::config::capabilities::Support;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;

/// The most choices of one call, which is OpenAI's own bound.
const MOST_CHOICES: usize = 128;

impl Provider {
    /// How many candidates to ask a model for in one call; 1 where each is to be a call of its own, be it because the
    /// configuration says so, the server is not known to honour `n`, or it was seen not to.
    pub fn most_together(&self, model: &str) -> usize {
        let is_wanted = match self.calls.use_n {
            UseN::Never => false,
            UseN::Always => true,
            UseN::Auto => self.capabilities(model).n == Support::Yes,
        };
        if is_wanted { self.habits.most_choices(model).unwrap_or(MOST_CHOICES).min(MOST_CHOICES) } else { 1 }
    }

    /// Asks for `count` candidates in one call, and returns those that came: at least one, maybe fewer than were asked
    /// for, and none that was not. An attempt that fails is made again as a whole. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete`]; [`Provider::may_refuse_several`] tells whether single calls may fare better. A
    /// candidate that came and cannot be read fails alone.
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
    ) -> Result<Vec<Result<Completion, Failure>>, Failure> {
        let mut told = self.counted(told);
        let once = |permit| async move {
            let several = self.several_once(request, count, seed).await;
            // Others may call while this one waits to try again.
            drop(permit);
            several
        };
        let Several { choices, usage } = self.attempts(request.queue(), &mut told, once).await?;
        told(Attempt::Answered(usage));
        if choices.len() < count {
            self.habits.brought(request.model(), choices.len());
        }
        Ok(choices)
    }

    /// Whether a server that refused several candidates in one call in this way may have done so because they were
    /// several. It shows when one alone is answered.
    pub fn may_refuse_several(failure: &Failure) -> bool {
        const NOT_IMPLEMENTED: u16 = 501;
        // Older builds of llama-server call it an error of their own.
        const OWN_ERROR: &str = "only one completion choice is allowed";
        match failure.kind {
            FailureKind::InvalidRequest | FailureKind::NotSupported => true,
            FailureKind::Unavailable => {
                failure.status == Some(NOT_IMPLEMENTED) || failure.message.to_ascii_lowercase().contains(OWN_ERROR)
            }
            _ => false,
        }
    }

    /// Remembers that the model takes no call for several candidates.
    pub fn refuses_several(&self, model: &str) {
        self.habits.brought(model, 1);
    }

    async fn several_once(
        &self,
        request: &PreparedRequest,
        count: usize,
        seed: Option<i64>,
    ) -> Result<Several, AttemptFailure> {
        let attempt = async {
            let mut response = self.send(self.address.chat(request.model()), request.several(count, seed)).await?;
            let body = self.read_body(&mut response, MAX_BODY_BYTES).await?.ok_or_else(|| self.too_large("body"))?;
            response::read_several(&body, content_type(&response), count, request.readers(), &self.upstream)
        };
        let several = timeout(self.calls.timeout, attempt).await.unwrap_or_else(|_| Err(self.out_of_time()));
        // However often it is said, it stays so.
        several.map_err(|attempt| AttemptFailure {
            may_retry: attempt.may_retry && !Self::may_refuse_several(&attempt.failure),
            ..attempt
        })
    }
}
