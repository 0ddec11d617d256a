//! The attempts of one call: whom to ask, in which turn, and whether once more. Whole answers, streams and raw texts
//! all go by this.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::{Instant, sleep, timeout};

use super::breaker::Standing;
use super::gate::{Pulse, Watch};
use super::limiter::{Caller, Limits, Place, QueueFull};
use super::members::{Member, Pool};
use super::pool::{Load, choose};
use super::retry::{AttemptFailure, Circumstances, LONGEST_PAUSE, LONGEST_REQUESTED_PAUSE, Retries};
use crate::completion::Usage;
use crate::failure::{Failure, FailureKind};
use crate::metrics::UpstreamMetrics;

/// Who is turned away by a full queue may come back after this.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// Of so many members of a pool it is told how they failed.
const MOST_TROUBLES: usize = 3;

/// The word for an attempt that no upstream has seen, since there was no connection.
const UNREACHABLE: &str = "unreachable";

/// What is told of a call's attempts as they are made, so that their caller can keep an account: `Begun`, then
/// one of the others, unless the call is dropped in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Its turn has come, and it is being sent.
    Begun,
    /// The upstream answered with an error and no word of the model's, or could not be reached: nothing was
    /// spent. The word says why, for those who count.
    Refused(&'static str),
    /// It broke off, ran out of time or came back unreadable, as the word says: what was spent on it is not known.
    Lost(&'static str),
    /// The same, and the upstream has told what was spent on it.
    Wasted { why: &'static str, usage: Usage },
    /// It was answered, and cost this.
    Answered(Usage),
    /// The same, but so many of the candidates that it asked for did not come.
    AnsweredInPart { usage: Usage, missing: usize },
}

impl Attempt {
    fn failed(attempt: &AttemptFailure) -> Self {
        let why = if attempt.is_unreachable { UNREACHABLE } else { attempt.failure.kind.as_str() };
        match attempt.spent.as_deref() {
            _ if attempt.was_refused => Self::Refused(why),
            Some(&usage) => Self::Wasted { why, usage },
            None => Self::Lost(why),
        }
    }
}

/// One call, over all its attempts.
pub(super) struct Attempts<M> {
    caller: Caller,
    model: Arc<str>,
    retries: Retries,
    /// How the last attempt failed, and whose it was.
    last: Option<(Failure, Arc<M>)>,
    /// The members of a pool that take no call of this key or model.
    refused_by: Vec<Arc<M>>,
    /// What is to pass before the next.
    pause: Option<Duration>,
    /// How long it has waited for probes and for members that want to be left alone.
    waited: Duration,
    /// The server is told the seed, so that the model makes the same mistake again.
    is_seeded: bool,
    /// The call is part of the traffic that retries are a share of.
    is_counted: bool,
}

/// The right to make one attempt. Dropping it gives the attempt up.
pub(super) struct Turn<M> {
    pub server: Arc<M>,
    watch: Watch,
    _place: Place,
    /// When the attempt began, until something is heard of it.
    began: Option<Instant>,
}

/// Whom to ask next.
struct Choice<'a, M> {
    server: &'a Arc<M>,
    /// Nobody else could be asked instead.
    is_last: bool,
    /// It wants to be left alone for so long, which a call that has failed already waits for.
    wait: Option<Duration>,
}

/// Nobody may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nobody {
    /// None answers anything, and one is asked again after so long.
    Dead(Duration),
    /// A call is finding out whether one does. It is time to look again when that has ended, and after so long.
    Probed(Duration),
}

impl<M> Turn<M> {
    /// The attempt's first token is here, or the whole answer. Only the first time counts.
    pub fn heard(&mut self, metrics: &UpstreamMetrics) {
        if let Some(began) = self.began.take() {
            metrics.first_token(began.elapsed());
            self.watch.pulse().felt();
        }
    }
}

impl<M: Member> Attempts<M> {
    pub fn new(provider: &Pool<M>, caller: Caller, model: Arc<str>) -> Self {
        let retries = Retries::new(provider.calls.max_retries);
        Self {
            caller,
            model,
            retries,
            last: None,
            refused_by: Vec::new(),
            pause: None,
            waited: Duration::ZERO,
            is_seeded: false,
            is_counted: false,
        }
    }

    /// The same, of which the server is told the seed or not.
    pub fn seeded(self, is_seeded: bool) -> Self {
        Self { is_seeded, ..self }
    }

    /// Makes attempts until one comes to something. `told` hears of each, and a pulse is to be felt when the head of a
    /// whole answer is here.
    ///
    /// # Errors
    ///
    /// The last attempt's failure, when it is not one to retry or the retries are used up; and why there was none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up, or leaves the queue.
    pub async fn make<T, F: Future<Output = Result<T, AttemptFailure>>>(
        &mut self,
        provider: &Pool<M>,
        told: &mut impl FnMut(Attempt),
        once: impl Fn(Arc<M>, Pulse) -> F,
    ) -> Result<(T, Turn<M>), Failure> {
        loop {
            let turn = self.begin(provider).await?;
            told(Attempt::Begun);
            match once(Arc::clone(&turn.server), turn.watch.pulse()).await {
                Ok(answer) => return Ok((answer, turn)),
                Err(attempt) => self.failed(provider, turn, attempt, told)?,
            }
        }
    }

    /// Ends the call well.
    pub fn answered(&mut self, turn: Turn<M>) {
        self.count(&turn.server);
        turn.watch.answered();
    }

    /// Takes note of an attempt's failure, after which another may be made.
    ///
    /// # Errors
    ///
    /// The failure, if it is final.
    pub fn failed(
        &mut self,
        provider: &Pool<M>,
        turn: Turn<M>,
        mut attempt: AttemptFailure,
        told: &mut impl FnMut(Attempt),
    ) -> Result<(), Failure> {
        let is_models_mistake = attempt.is_verdict && attempt.failure.kind == FailureKind::Malformed;
        attempt.may_retry &= !(is_models_mistake && self.is_seeded);
        told(Attempt::failed(&attempt));
        let Turn { server, watch, _place: place, .. } = turn;
        let was_probe = watch.is_probe();
        watch.failed(&attempt);
        // Others may call while this one waits to try again.
        drop(place);
        self.count(&server);
        let failure = attempt.failure.clone();
        if provider.members.len() > 1 && attempt.is_misplaced() {
            // What one member does not take costs nothing, and another may. It is no retry.
            server.gate().set_aside(&self.model, provider.calls.breaker.as_ref());
            self.refused_by.push(Arc::clone(&server));
            let next = self.choose(provider, None);
            return if next.is_ok_and(|next| next.wait.is_none()) { Ok(()) } else { Err(failure) };
        }
        let next = self.choose(provider, Some(&server)).map(|choice| Arc::clone(choice.server));
        let left_alone = match &next {
            Err(Nobody::Dead(wait)) if was_probe => Some(*wait),
            _ => None,
        };
        let next = next.unwrap_or_else(|_| Arc::clone(&server));
        let elsewhere = !Arc::ptr_eq(&next, &server);
        // Who comes back when the upstream has said so adds to no storm.
        let is_free = attempt.is_put_off() && !elsewhere;
        let pause = self.retries.pause_after(attempt, self.circumstances(elsewhere))?;
        if let Some(wait) = left_alone {
            // Nothing answers still. Whoever found that out would wait through one cool-down after the other.
            let message = format!(
                "{}; {} is left alone for another {:.1} s, as `breaker` sets",
                failure.message,
                provider.name,
                wait.as_secs_f64()
            );
            return Err(Failure { retry_after: Some(wait), ..Failure::new(FailureKind::LeftAlone, message) });
        }
        let calls = &provider.calls;
        if !is_free && !next.gate().take_retry(calls.retry_budget, calls.max_retries) {
            let share = calls.retry_budget * 100.0;
            let message = format!(
                "{} (no further attempt was made, since retries are held to {share} % of the calls; `retry_budget` sets \
                 this share)",
                failure.message
            );
            return Err(Failure { message, ..failure });
        }
        self.last = Some((failure, server));
        self.pause = Some(pause);
        Ok(())
    }

    /// Waits for the next attempt's turn.
    async fn begin(&mut self, provider: &Pool<M>) -> Result<Turn<M>, Failure> {
        if let Some(pause) = self.pause.take() {
            sleep(pause).await;
        }
        loop {
            let avoided = self.last.as_ref().map(|(_, server)| server);
            let (server, is_last) = match self.choose(provider, avoided) {
                Ok(Choice { wait: Some(wait), .. }) => {
                    self.leave_alone(wait).await?;
                    continue;
                }
                Ok(choice) => (Arc::clone(choice.server), choice.is_last),
                Err(Nobody::Probed(wait)) => {
                    self.await_probe(provider, wait).await?;
                    continue;
                }
                Err(Nobody::Dead(wait)) => {
                    sleep(self.pause_of_the_dead(provider, wait)?).await;
                    continue;
                }
            };
            let place = provider.metrics.waiting(server.gate().limiter.place(&self.caller)).await;
            let place = place.map_err(|full| queue_full(provider, full))?;
            // What stood well may have fallen while the call waited for its place.
            if let Ok(watch) = server.gate().begin(&self.model, provider.calls.breaker, is_last) {
                return Ok(Turn { server, watch, _place: place, began: Some(Instant::now()) });
            }
        }
    }

    /// Whom to ask: one that is fit and has not just failed this call, else one that has, else one that answers at
    /// least some calls or only wants fewer. A call that has failed goes to one that wants fewer last, and waits for it.
    ///
    /// # Errors
    ///
    /// When to look again, when nobody answers anything.
    fn choose<'a>(&self, provider: &'a Pool<M>, avoided: Option<&Arc<M>>) -> Result<Choice<'a, M>, Nobody> {
        let breaker = provider.calls.breaker.as_ref();
        if let [only] = provider.members.as_slice() {
            return match only.gate().standing(&self.model, breaker) {
                Standing::Dead(wait) => Err(Nobody::Dead(wait)),
                Standing::Probed(wait) => Err(Nobody::Probed(wait)),
                _ => Ok(Choice { server: only, is_last: true, wait: None }),
            };
        }
        let refuses = |server: &Arc<M>| self.refused_by.iter().any(|refused| Arc::ptr_eq(refused, server));
        let members = provider.members.iter().filter(|server| !refuses(server));
        let members: Vec<(&Arc<M>, Standing)> =
            members.map(|server| (server, server.gate().standing(&self.model, breaker))).collect();
        let is_avoided = |server: &Arc<M>| avoided.is_some_and(|avoided| Arc::ptr_eq(avoided, server));
        let rank = |(server, standing): &(&Arc<M>, Standing)| match standing {
            Standing::Fit | Standing::Due if !is_avoided(server) => Some(0),
            Standing::Suspect if !is_avoided(server) => Some(1),
            Standing::Fit | Standing::Due | Standing::Suspect => Some(2),
            Standing::Cooling(_) if avoided.is_some() => Some(4),
            Standing::Cooling(_) | Standing::Failing(_) => Some(3),
            Standing::Dead(_) | Standing::Probed(_) => None,
        };
        let Some(best) = members.iter().filter_map(rank).min() else {
            let waits = members.iter().filter_map(|(_, standing)| match standing {
                Standing::Dead(wait) | Standing::Probed(wait) => Some(*wait),
                _ => None,
            });
            let wait = waits.min().unwrap_or_default();
            let is_probed = members.iter().any(|(_, standing)| matches!(standing, Standing::Probed(_)));
            return Err(if is_probed { Nobody::Probed(wait) } else { Nobody::Dead(wait) });
        };
        if best == 4 {
            let cooling = members.iter().filter_map(|(server, standing)| match standing {
                Standing::Cooling(wait) => Some((*server, *wait)),
                _ => None,
            });
            let (server, wait) = cooling.min_by_key(|(_, wait)| *wait).expect("the best are cooling");
            return Ok(Choice { server, is_last: true, wait: Some(wait) });
        }
        let best_ones: Vec<&Arc<M>> =
            members.iter().filter(|member| rank(member) == Some(best)).map(|(server, _)| *server).collect();
        let server = match best_ones.as_slice() {
            [only] => only,
            several => {
                let load = |server: &&Arc<M>| Load { calls: server.gate().limiter.load(), weight: server.weight() };
                let loads: Vec<Load> = several.iter().map(load).collect();
                several[choose(&loads, &mut rand::rng()).expect("there are several")]
            }
        };
        Ok(Choice { server, is_last: best == 3, wait: None })
    }

    /// How long to wait for a provider of which nothing answers. Who has been asking waits until it may be asked
    /// again; who comes new is told to come back then.
    fn pause_of_the_dead(&mut self, provider: &Pool<M>, wait: Duration) -> Result<Duration, Failure> {
        let why = self.why_not(provider, wait);
        if self.last.is_none() {
            return Err(why);
        }
        let left_alone = Failure { retry_after: Some(wait), ..Failure::new(FailureKind::LeftAlone, "") };
        let attempt = AttemptFailure { may_retry: true, ..AttemptFailure::from(left_alone) };
        self.retries.pause_after(attempt, self.circumstances(false)).map_err(|_| why)
    }

    /// Why no attempt is made: how the last one failed, and without any that nothing answers.
    fn why_not(&self, provider: &Pool<M>, wait: Duration) -> Failure {
        let failure = match &self.last {
            Some((last, _)) => last.clone(),
            None => {
                let mut troubles: Vec<String> =
                    provider.members.iter().filter_map(|server| server.gate().trouble(&self.model)).collect();
                troubles.truncate(MOST_TROUBLES);
                let last = match troubles.as_slice() {
                    [] => String::new(),
                    some => format!(" (the last: {})", some.join(", ")),
                };
                let message = format!(
                    "{} answered none of its last calls{last} and is left alone for {:.1} s; `breaker` sets when and for \
                     how long",
                    provider.name,
                    wait.as_secs_f64()
                );
                Failure::new(FailureKind::LeftAlone, message)
            }
        };
        Failure { retry_after: Some(wait), ..failure }
    }

    /// Waits until a probe has come to something, which is no retry. Without it all candidates of a request but the one
    /// that is the probe would fail. A request that comes new is kept for a shorter while, and only so many are.
    async fn await_probe(&mut self, provider: &Pool<M>, wait: Duration) -> Result<(), Failure> {
        let was_let_in = self.caller.was_let_in();
        let longest = if was_let_in { LONGEST_REQUESTED_PAUSE } else { LONGEST_PAUSE };
        let left = longest.saturating_sub(self.waited);
        let left = self.circumstances(false).time_left.map_or(left, |time_left| left.min(time_left));
        let first = &provider.members[0].gate();
        let position = if was_let_in { None } else { first.stand_by(provider.calls.max_queued) };
        if left.is_zero() || (position.is_none() && !was_let_in) {
            return Err(self.why_not(provider, wait));
        }
        let ends = select_all(provider.members.iter().map(|server| Box::pin(server.gate().probe_ended())));
        // What ended before this one listened is not heard of.
        let avoided = self.last.as_ref().map(|(_, server)| server);
        if matches!(self.choose(provider, avoided), Err(Nobody::Probed(_))) {
            let begun = Instant::now();
            let _ = timeout(wait.min(left), ends).await;
            self.waited += begun.elapsed();
        }
        Ok(())
    }

    /// Waits for as long as the only members that are left have asked for.
    async fn leave_alone(&mut self, wait: Duration) -> Result<(), Failure> {
        let is_too_long = wait > LONGEST_REQUESTED_PAUSE.saturating_sub(self.waited);
        let is_too_late = self.circumstances(false).time_left.is_some_and(|left| wait >= left);
        if let Some((last, _)) = self.last.as_ref().filter(|_| is_too_long || is_too_late) {
            return Err(Failure { retry_after: Some(wait), ..last.clone() });
        }
        self.waited += wait;
        sleep(wait).await;
        Ok(())
    }

    fn circumstances(&self, elsewhere: bool) -> Circumstances {
        let time_left = self.caller.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Circumstances { elsewhere, time_left }
    }

    fn count(&mut self, server: &M) {
        if !std::mem::replace(&mut self.is_counted, true) {
            server.gate().count_call();
        }
    }
}

fn queue_full<M>(provider: &Pool<M>, QueueFull(limits): QueueFull) -> Failure {
    let Limits { n_parallel, max_queued } = limits;
    let message = format!(
        "{} is called as often at once as `n_parallel` allows ({n_parallel}), and as many requests wait as `max_queued` \
         allows ({max_queued}); come back later, or raise one of the two",
        provider.name
    );
    Failure { retry_after: Some(QUEUE_PAUSE), ..Failure::new(FailureKind::Overloaded, message) }
}
