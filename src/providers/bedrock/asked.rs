//! Credentials that others are asked for: once for all calls that want them, for no longer than a call can wait, and
//! anew when they no longer hold.
//!
//! This stands in for the SDK's cache of identities. That one asks within the call that wants them first, so that a call
//! that is given up breaks off what the next begins again; it gives up after some seconds itself, which is no time for
//! whoever has to take a phone in hand; and nobody can tell it that what it holds is of no use any more.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_bedrockruntime::config::Credentials;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::client::unlogged;
use super::profiles::{ProfileFiles, Stamps};
use super::strike::strike;

/// No call waits longer for them.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A failure holds for so long: a run's candidates ask one after the other, and each would wait for the same.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Credentials that do not say how long they hold are asked for again after this.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Those that do are replaced so long before their end.
const EARLY: Duration = Duration::from_secs(10);
/// Credentials that are this young are not doubted: what is refused to them is refused to the next as well.
const YOUNG: Duration = Duration::from_secs(60);
/// A word of this many characters that has letters of both kinds and digits is taken for a key.
const MIN_KEY_CHARS: usize = 20;

/// Credentials that others are asked for.
#[derive(Debug)]
pub(super) struct Asked {
    provider: Arc<dyn ProvideCredentials>,
    /// Where these have changed, what was heard before counts no more.
    files: ProfileFiles,
    limit: Duration,
    latest: Mutex<Option<Question>>,
}

#[derive(Debug)]
struct Question {
    /// The files when it was asked.
    of: Stamps,
    answer: watch::Receiver<Option<Answer>>,
    /// When a call last gave up waiting for the answer.
    given_up: Option<Instant>,
}

#[derive(Debug)]
struct Answer {
    at: Instant,
    found: Option<Credentials>,
}

impl Asked {
    pub fn new(provider: impl ProvideCredentials + 'static, files: ProfileFiles) -> Self {
        Self { provider: Arc::new(provider), files, limit: LONGEST_WAIT, latest: Mutex::default() }
    }

    /// The upstream has refused them: they are asked for anew, unless they have only just come.
    pub fn doubt(&self) {
        let mut latest = self.latest.lock();
        let is_old = |question: &mut Question| {
            question
                .answer
                .borrow()
                .as_ref()
                .is_some_and(|answer| answer.found.is_some() && answer.at.elapsed() >= YOUNG)
        };
        latest.take_if(is_old);
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let Some(mut answer) = self.answer() else { return self.in_vain() };
        let waited = timeout(self.limit, answer.wait_for(Option::is_some)).await;
        // Where the answer does not come at all, whoever asked has gone, as the daemon goes.
        let found = waited.map(|answer| answer.ok()?.as_ref()?.found.clone());
        match found {
            Ok(found) => found.ok_or_else(CredentialsError::not_loaded_no_source),
            Err(_) => {
                if let Some(question) = self.latest.lock().as_mut().filter(|latest| latest.answer.same_channel(&answer))
                {
                    question.given_up = Some(Instant::now());
                }
                self.in_vain()
            }
        }
    }

    /// The answer to the latest question, which is asked here if there is none that counts; `None` while it is not
    /// worth waiting for.
    ///
    /// A question goes on when nobody waits any more, and as long as it does no other is asked: the SDK does not stop a
    /// process that it has begun, so that there would be one more of them with every call.
    fn answer(&self) -> Option<watch::Receiver<Option<Answer>>> {
        let of = self.files.stamps();
        let mut latest = self.latest.lock();
        if let Some(question) = latest.as_ref().filter(|question| question.of == of && question.counts()) {
            return question.is_worth_waiting_for().then(|| question.answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        let provider = Arc::clone(&self.provider);
        tokio::spawn(async move {
            let found = unlogged(provider.provide_credentials()).await;
            if let Err(error) = &found {
                warn!(why = without_keys(&whole(error)), "no credentials were found for AWS");
            }
            tell.send_replace(Some(Answer { at: Instant::now(), found: found.ok() }));
        });
        *latest = Some(Question { of, answer: answer.clone(), given_up: None });
        Some(answer)
    }

    fn in_vain(&self) -> Result<Credentials, CredentialsError> {
        // An instance's role stays usable while nobody can renew it.
        self.fallback_on_interrupt().ok_or_else(|| CredentialsError::provider_timed_out(self.limit))
    }
}

impl ProvideCredentials for Asked {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        // Of an `Arc` itself the SDK knows no such thing.
        self.provider.as_ref().fallback_on_interrupt()
    }
}

impl Question {
    fn counts(&self) -> bool {
        match &*self.answer.borrow() {
            Some(Answer { at, found: None }) => at.elapsed() < REMEMBERED,
            Some(Answer { at, found: Some(credentials) }) => match credentials.expiry() {
                Some(expiry) => SystemTime::now() + EARLY < expiry,
                None => at.elapsed() < KEPT,
            },
            // Unless it was broken off.
            None => self.answer.has_changed().is_ok(),
        }
    }

    fn is_worth_waiting_for(&self) -> bool {
        self.answer.borrow().is_some() || self.given_up.is_none_or(|at| at.elapsed() >= REMEMBERED)
    }
}

/// An error with its reasons.
fn whole(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Strikes what may be a key out of words for the operator. A process that fails may have written anything.
fn without_keys(text: &str) -> String {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "+/=_-".contains(letter);
    let is_key = |word: &str| {
        let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
        word.len() >= MIN_KEY_CHARS
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_digit)
    };
    let mut struck = String::with_capacity(text.len());
    for piece in text.split_inclusive(|letter| !is_of_word(letter)) {
        let word = piece.trim_end_matches(|letter| !is_of_word(letter));
        struck.push_str(if is_key(word) { "[removed]" } else { word });
        struck.push_str(&piece[word.len()..]);
    }
    strike(&struck)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers as often as it has leave to, first with a failure, then with credentials that are numbered.
    #[derive(Debug)]
    struct Guarded {
        leave: Semaphore,
        asked: AtomicUsize,
        fallback: Option<Credentials>,
    }

    impl Guarded {
        fn with(leave: usize) -> Arc<Self> {
            Arc::new(Self { leave: Semaphore::new(leave), asked: AtomicUsize::new(0), fallback: None })
        }

        async fn provide(&self) -> Result<Credentials, CredentialsError> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            self.leave.acquire().await.expect("it is never closed").forget();
            match number {
                0 => Err(CredentialsError::provider_error("nobody is there")),
                _ => Ok(Credentials::new(format!("id-{number}"), "key", None, None, "test")),
            }
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl ProvideCredentials for Guarded {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(self.provide())
        }

        fn fallback_on_interrupt(&self) -> Option<Credentials> {
            self.fallback.clone()
        }
    }

    fn asking(provider: &Arc<Guarded>) -> Asked {
        let (files, latest) = (ProfileFiles::default(), Mutex::default());
        Asked { provider: provider.clone(), files, limit: LONGEST_WAIT, latest }
    }

    async fn id(asked: &Asked) -> Result<String, CredentialsError> {
        asked.ask().await.map(|credentials| credentials.access_key_id().to_owned())
    }

    /// Has the latest answer come so long ago.
    fn age(asked: &Asked, by: Duration) {
        let mut latest = asked.latest.lock();
        let question = latest.as_mut().unwrap();
        let found = question.answer.borrow().as_ref().unwrap().found.clone();
        question.answer = watch::channel(Some(Answer { at: Instant::now().checked_sub(by).unwrap(), found })).1;
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while_and_then_asked_about_again() {
        let provider = Guarded::with(9);
        let asked = asking(&provider);
        for _ in 0..3 {
            assert!(matches!(asked.ask().await, Err(CredentialsError::CredentialsNotLoaded(_))));
        }
        assert_eq!(provider.asked(), 1);
        age(&asked, REMEMBERED);
        assert_eq!(id(&asked).await.unwrap(), "id-1");
        assert_eq!(id(&asked).await.unwrap(), "id-1");
    }

    #[tokio::test]
    async fn credentials_are_kept_until_they_are_old_or_refused() {
        let provider = Guarded::with(9);
        let asked = asking(&provider);
        asked.ask().await.unwrap_err();
        age(&asked, REMEMBERED);
        assert_eq!(id(&asked).await.unwrap(), "id-1");
        asked.doubt();
        assert_eq!(id(&asked).await.unwrap(), "id-1", "they had just come");
        age(&asked, YOUNG);
        assert_eq!(id(&asked).await.unwrap(), "id-1", "nobody doubts them");
        asked.doubt();
        assert_eq!(id(&asked).await.unwrap(), "id-2");
        age(&asked, KEPT);
        assert_eq!(id(&asked).await.unwrap(), "id-3");
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_told_so_and_nobody_asks_a_second_time() {
        let provider = Guarded::with(0);
        provider.asked.store(1, Ordering::Relaxed);
        let asked = Asked { limit: Duration::from_millis(1), ..asking(&provider) };
        for _ in 0..3 {
            assert!(matches!(asked.ask().await, Err(CredentialsError::ProviderTimedOut(_))));
        }
        // Even after that has been forgotten.
        asked.latest.lock().as_mut().unwrap().given_up = None;
        assert!(matches!(asked.ask().await, Err(CredentialsError::ProviderTimedOut(_))));
        assert_eq!(provider.asked(), 2);
        provider.leave.add_permits(1);
        let mut answer = asked.latest.lock().as_ref().unwrap().answer.clone();
        answer.wait_for(Option::is_some).await.unwrap();
        assert_eq!(id(&asked).await.unwrap(), "id-1");
    }

    #[tokio::test]
    async fn what_was_asked_goes_on_without_whoever_asked_first() {
        let provider = Guarded::with(0);
        provider.asked.store(1, Ordering::Relaxed);
        let asked = asking(&provider);
        assert!(futures_util::poll!(std::pin::pin!(asked.ask())).is_pending());
        provider.leave.add_permits(1);
        assert_eq!(id(&asked).await.unwrap(), "id-1");
        assert_eq!(provider.asked(), 2);
    }

    #[tokio::test]
    async fn a_role_that_nobody_can_renew_in_time_is_still_used() {
        let mut provider = Guarded::with(0);
        let fallback = Credentials::new("id-of-before", "key", None, None, "test");
        Arc::get_mut(&mut provider).unwrap().fallback = Some(fallback);
        let asked = Asked { limit: Duration::from_millis(1), ..asking(&provider) };
        assert_eq!(id(&asked).await.unwrap(), "id-of-before");
        assert_eq!(asked.fallback_on_interrupt().unwrap().access_key_id(), "id-of-before");
    }

    #[test]
    fn no_key_is_in_what_the_operator_is_told() {
        for (said, expected) in [
            ("the token has expired; run `aws sso login`", "the token has expired; run `aws sso login`"),
            ("key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY!", "key: [removed]!"),
            ("AKIAIOSFODNN7EXAMPLE is gone", "[removed] is gone"),
            ("/usr/local/bin/get-credentials: not found", "/usr/local/bin/get-credentials: not found"),
        ] {
            assert_eq!(without_keys(said), expected);
        }
    }
}
