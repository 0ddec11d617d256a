//! When a failed call is made again, and after how long.
//!
//! The schedule is the only one: neither the HTTP client nor a caller retries on its own, so that a limit
//! of three retries means at most four calls.

use std::time::{Duration, SystemTime};

use rand::RngExt;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::completion::Usage;
use crate::failure::{Failure, FailureKind};

/// The pause before the first retry is drawn from zero to this.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// No drawn pause is longer than this.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// An upstream that asks for more than this is not waited for: the caller learns when to come back.
pub(super) const LONGEST_REQUESTED_PAUSE: Duration = Duration::from_secs(60);
/// A pause that an upstream asks for relieves it if it is at least this long.
const SHORTEST_RELIEF: Duration = Duration::from_millis(100);

/// A failed attempt, and whether another may follow it.
#[derive(Debug, Clone)]
pub(super) struct AttemptFailure {
    pub failure: Failure,
    pub may_retry: bool,
    /// The upstream said no, or could not be reached: nothing was spent.
    pub was_refused: bool,
    /// It could not be reached.
    pub is_unreachable: bool,
    /// The upstream has judged what was asked, or what the model made of it: it is well, whatever the failure's kind.
    pub is_verdict: bool,
    /// What was spent on it, where the upstream has told.
    pub spent: Option<Box<Usage>>,
}

impl AttemptFailure {
    /// A failure that no repetition heals, whatever its kind says.
    pub fn fatal(failure: Failure) -> Self {
        Self { may_retry: false, ..Self::from(failure) }
    }

    /// The same failure of an attempt of which something has been passed on: it cannot be repeated.
    pub fn passed_on(self) -> Self {
        Self { may_retry: false, was_refused: false, ..self }
    }

    /// The same failure of an attempt on which nothing was spent.
    pub fn refused(self) -> Self {
        Self { was_refused: true, ..self }
    }

    /// The upstream does not take the key, or does not know the model: another may.
    pub fn is_misplaced(&self) -> bool {
        self.was_refused && matches!(self.failure.kind, FailureKind::Auth | FailureKind::NotFound)
    }

    /// The upstream has said when to come back, and is not overrun by whoever does then.
    pub fn is_put_off(&self) -> bool {
        let Failure { kind, retry_after, .. } = &self.failure;
        *kind == FailureKind::RateLimited && retry_after.is_some_and(|pause| pause >= SHORTEST_RELIEF)
    }

    /// The same failure of an attempt that the upstream has not heard of.
    pub fn unreachable(self) -> Self {
        Self { was_refused: true, is_unreachable: true, ..self }
    }
}

impl From<Failure> for AttemptFailure {
    fn from(failure: Failure) -> Self {
        let may_retry = failure.kind.is_retryable();
        Self { failure, may_retry, was_refused: false, is_unreachable: false, is_verdict: false, spent: None }
    }
}

/// The retries of one call.
#[derive(Debug)]
pub(super) struct Retries {
    made: u32,
    limit: u32,
}

/// What stands between a failed attempt and the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// The next attempt would be made elsewhere, where the pause that this upstream asks for does not hold.
    pub elsewhere: bool,
    /// How long there is until nobody waits any more; `None` for as long as it takes.
    pub time_left: Option<Duration>,
}

impl Retries {
    pub fn new(limit: u32) -> Self {
        Self { made: 0, limit }
    }

    /// How long to wait before the next attempt.
    ///
    /// # Errors
    ///
    /// The failure itself when it is final: it is not one that a repetition may heal, the retries are used
    /// up, the pause would outlast whoever waits, or the upstream asked for a longer one than a caller should be kept
    /// waiting.
    pub fn pause_after(&mut self, attempt: AttemptFailure, now: Circumstances) -> Result<Duration, Failure> {
        let AttemptFailure { failure, may_retry, .. } = attempt;
        if !may_retry || self.made >= self.limit {
            return Err(failure);
        }
        let pause = match failure.retry_after.filter(|_| !now.elsewhere) {
            Some(requested) if requested > LONGEST_REQUESTED_PAUSE => return Err(failure),
            // A zero says nothing about when: an upstream under load would be asked again at once.
            Some(requested) if !requested.is_zero() => requested,
            _ => ceiling(self.made).mul_f64(rand::rng().random_range(0.0..=1.0)),
        };
        if now.time_left.is_some_and(|left| pause >= left) {
            return Err(failure);
        }
        self.made += 1;
        Ok(pause)
    }
}

/// The longest pause drawn before retry `made + 1`: 0.5 s, doubled with each retry, at most 8 s.
fn ceiling(made: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2u32.saturating_pow(made)).min(LONGEST_PAUSE)
}

/// The headers that say it in milliseconds: OpenAI's and AWS's.
const IN_MILLISECONDS: [&str; 2] = ["retry-after-ms", "x-amz-retry-after"];

/// How long the upstream asked to be left alone: in milliseconds first, which is finer, then by `Retry-After` in
/// seconds or as an HTTP date (a date in the past is zero).
pub(super) fn requested_pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str, unit: f64| {
        let count: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(count * unit).ok()
    };
    let finer = IN_MILLISECONDS.iter().find_map(|name| number(text(name)?, 0.001));
    if finer.is_some() {
        return finer;
    }
    let text = text(RETRY_AFTER.as_str())?;
    number(text, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Circumstances = Circumstances { elsewhere: false, time_left: None };

    fn unavailable(retry_after: Option<Duration>) -> AttemptFailure {
        Failure { retry_after, ..Failure::new(FailureKind::Unavailable, "down") }.into()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn pauses_double_from_half_a_second_to_eight_seconds() {
        let ceilings: Vec<u64> = (0..7).map(|made| ceiling(made).as_millis() as u64).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(ceiling(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_drawn_pause_stays_under_its_ceiling_and_the_limit_ends_it() {
        for _ in 0..200 {
            let mut retries = Retries::new(2);
            assert!(retries.pause_after(unavailable(None), HERE).unwrap() <= Duration::from_millis(500));
            assert!(retries.pause_after(unavailable(None), HERE).unwrap() <= Duration::from_millis(1000));
            assert_eq!(retries.pause_after(unavailable(None), HERE).unwrap_err().message, "down");
        }
    }

    #[test]
    fn no_retries_means_one_attempt() {
        assert!(Retries::new(0).pause_after(unavailable(None), HERE).is_err());
    }

    #[test]
    fn a_requested_pause_is_kept_unless_it_is_over_a_minute() {
        let mut retries = Retries::new(3);
        let minute = Duration::from_secs(60);
        assert_eq!(retries.pause_after(unavailable(Some(minute)), HERE).unwrap(), minute);
        let longer = minute + Duration::from_millis(1);
        assert_eq!(retries.pause_after(unavailable(Some(longer)), HERE).unwrap_err().retry_after, Some(longer));
    }

    #[test]
    fn a_pause_that_one_upstream_asks_for_holds_at_no_other() {
        let hour = unavailable(Some(Duration::from_secs(3600)));
        let elsewhere = Circumstances { elsewhere: true, ..HERE };
        assert!(Retries::new(1).pause_after(hour, elsewhere).unwrap() <= Duration::from_millis(500));
    }

    #[test]
    fn nobody_is_made_to_wait_for_a_pause_that_outlasts_them() {
        let left = |ms| Circumstances { time_left: Some(Duration::from_millis(ms)), ..HERE };
        let soon = || unavailable(Some(Duration::from_millis(100)));
        let mut retries = Retries::new(1);
        assert_eq!(retries.pause_after(soon(), left(100)).unwrap_err().message, "down");
        assert!(retries.pause_after(soon(), left(0)).is_err());
        assert_eq!(retries.pause_after(soon(), left(101)).unwrap(), Duration::from_millis(100));
    }

    #[test]
    fn a_fatal_attempt_is_not_repeated_although_its_kind_could_be() {
        let quota = AttemptFailure::fatal(Failure::new(FailureKind::RateLimited, "quota"));
        assert!(Retries::new(3).pause_after(quota, HERE).is_err());
    }

    #[test]
    fn only_a_rate_limit_that_says_for_how_long_it_holds_puts_off() {
        let is_put_off = |kind, pause: Option<u64>| {
            let retry_after = pause.map(Duration::from_millis);
            AttemptFailure::from(Failure { retry_after, ..Failure::new(kind, "wait") }).is_put_off()
        };
        assert!(is_put_off(FailureKind::RateLimited, Some(100)));
        assert!(!is_put_off(FailureKind::RateLimited, Some(99)));
        assert!(!is_put_off(FailureKind::RateLimited, None));
        assert!(!is_put_off(FailureKind::Unavailable, Some(1000)));
    }

    #[test]
    fn requested_pauses_are_read_in_milliseconds_seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |pairs: &[_]| requested_pause(&headers(pairs), now);
        assert_eq!(read(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(Duration::from_millis(250)));
        assert_eq!(read(&[("x-amz-retry-after", "250"), ("retry-after", "9")]), Some(Duration::from_millis(250)));
        assert_eq!(read(&[("x-amz-retry-after", "soon"), ("retry-after", "9")]), Some(Duration::from_secs(9)));
        assert_eq!(read(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(read(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(read(&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")]), Some(Duration::from_secs(10)));
        assert_eq!(read(&[("retry-after", "Sun, 06 Nov 1994 08:40:00 GMT")]), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "NaN", "inf", "1e400"] {
            assert_eq!(requested_pause(&headers(&[("retry-after", nonsense)]), now), None, "{nonsense}");
        }
        assert_eq!(read(&[]), None);
    }
}
