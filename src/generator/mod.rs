//! The one fan-out engine under every algorithm: paths are opened for a prompt and extended, and the
//! algorithm hears about each as it goes.
//!
//! A whole answer is a path extended until its end, so sampling and step-wise search share one shape, and so
//! do remote providers and the in-process engine. What a path needs (a connection, a sequence in the KV
//! cache) lives in the stream that extends it: dropping the stream aborts every call in flight, upstream
//! included. Which candidates to ask for and when to stop is not decided here but in `algorithms`.

mod branch;
mod busy;
mod ledger;
#[cfg(feature = "llama")]
mod local;
mod remote;
mod run;
mod text;
mod together;
#[cfg(feature = "llama")]
mod text_local;

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};

use crate::completion::{Completion, Logprobs, Prompt, StepEvent};
use crate::failure::{Failure, FailureKind};

pub use branch::{Branch, Step, StepRule, TemperatureSwitch};
pub use ledger::{Account, Ledger, Phase, Spent};
pub use run::{Bound, Bounds, Run, RunSeed};
pub use text::{Members, TextAnswer, TextRequest};

/// A source of candidates: a remote provider or the in-process engine.
pub trait Generator: Send + Sync {
    /// Begins to extend every path; the extension tells what happens. Waits only for what must be there
    /// before anything can be generated, such as a model that is still being loaded.
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>>;

    /// Continues raw texts: what one request of OpenAI's legacy API asks for, and no more than that. Only who serves
    /// that API needs it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream of the answer, ends the call.
    fn continue_texts(&self, _: TextRequest, _: Arc<Run>) -> BoxFuture<'_, Result<TextAnswer, Failure>> {
        let failure =
            Failure::new(FailureKind::NotSupported, "this model continues no raw texts; use chat completions");
        std::future::ready(Err(failure)).boxed()
    }

    /// Opens paths that are extended step by step, which all begin with `prompt`; their numbers are those of `numbers`, from
    /// which their random numbers follow. What each step costs goes to the run's ledger as a call of its phase.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotSupported`] where a partial answer cannot be continued, and whatever else keeps paths from being
    /// opened, before anything was spent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing.
    fn branches(
        &self,
        _prompt: Arc<Prompt>,
        _rule: Arc<StepRule>,
        _numbers: Range<usize>,
        _phase: Phase,
        _run: Arc<Run>,
    ) -> BoxFuture<'_, Result<Vec<Box<dyn Branch>>, Failure>> {
        std::future::ready(Err(Failure::new(FailureKind::NotSupported, CONTINUES_NOTHING))).boxed()
    }

    /// What paths of a model of this name are, as far as that is known before one was opened; `None` where a partial
    /// answer cannot be continued, so that [`Generator::branches`] would refuse.
    fn paths(&self, _model: &str) -> Option<PathSupport> {
        None
    }

    /// Makes a request fit for the model that it names, and says of everything that is asked for in another way than
    /// the client did. The algorithm's own prompts, such as a judge's, come here too.
    ///
    /// # Errors
    ///
    /// What the model cannot do and nothing can stand for, by the parameter to change.
    fn fit(&self, _: &mut Prompt) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    /// Whether a field that is none of OpenAI's is no stranger to this model's API, so that nobody need be warned that it
    /// was passed on.
    fn knows(&self, _model: &str, _field: &str) -> bool {
        false
    }

    /// Whether a candidate of this model that is cancelled is paid for no further.
    fn stops_billing(&self, _model: &str) -> bool {
        false
    }

    /// Whether a connection to it costs next to nothing, so that every thread may have some of its own. One that has to be
    /// secured, or that carries many calls at once, is better shared.
    fn is_near(&self) -> bool {
        true
    }

    /// The configuration that made it is in effect from now on, and with it the limits that it puts on what it shares
    /// with others.
    fn take_effect(&self) {}

    /// Where it is, if that is outside this process.
    fn whereabouts(&self) -> Option<Whereabouts> {
        None
    }

    /// What a model of this name can tell of its tokens, as far as that is known before it was asked.
    fn signals(&self, _model: &str) -> SignalSupport {
        SignalSupport { max_top: Some(Logprobs::MOST), self_certainty: false }
    }
}

/// Where candidates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    pub provider: String,
    /// Scheme, host and port; of several, all.
    pub address: String,
}

/// Why there are no paths where [`Generator::paths`] says so, and what to change.
pub const CONTINUES_NOTHING: &str = "this provider cannot continue a partial answer, which search over steps needs; use a \
    model of the in-process engine (`provider` `llama`), or an `alg` over whole answers";

/// What is known of the paths that a generator opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathSupport {
    /// Whether the texts of a path's steps are the content of its answer to the letter, where it may call no tools: then
    /// they can be told before the path has ended.
    pub text_is_content: bool,
    /// The most that there may be at the same time.
    pub most: usize,
}

/// What a generator can tell of the tokens that it generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalSupport {
    /// The most alternatives of a token; `None` where it tells no log-probabilities at all.
    pub max_top: Option<u8>,
    /// Whether it tells the self-certainty of tokens.
    pub self_certainty: bool,
}

/// Paths being extended: a stream of `(candidate, event)` in order of arrival.
///
/// Each path ends with exactly one `Finished` or `Failed`; the stream ends after the last of them.
///
/// # Cancel safety
///
/// Dropping the extension ends every unfinished path at once: connections are closed, sequences freed.
pub trait Extension: Stream<Item = (usize, StepEvent)> + Send + Unpin {
    /// Ends every unfinished path like a drop, and returns when what they had cost until then is in the
    /// ledger, as far as it can be known. Those that had come to an end of their own by then, which nobody has heard of
    /// yet, are returned with that end: they are paid for. No path begins that has waited for its turn until now.
    fn cancel(self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>>;
}

/// What the in-process engine tells of its tokens, also while its model is not loaded.
#[cfg(feature = "llama")]
pub const LOCAL_SIGNALS: SignalSupport = SignalSupport { max_top: Some(Logprobs::MOST), self_certainty: true };

/// A partial answer that can be extended. It is owned by whoever extends it.
#[derive(Debug, Clone)]
pub struct Path {
    /// Index of the candidate within the phase of its run, from 0.
    pub candidate: usize,
    /// What it is made for: the account that it goes to.
    pub phase: Phase,
    pub prompt: Arc<Prompt>,
    pub run: Arc<Run>,
}

impl Path {
    /// The seed to send upstream; `None` where none was named.
    fn upstream_seed(&self) -> Option<i64> {
        self.run.upstream_seed(self.phase, self.candidate)
    }
}

/// Where an extension ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At the end of the response.
    End,
}

/// How an extension is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Only how each path ended.
    Whole,
    /// The same, and the first so many paths are needed whatever comes of the others: a provider that can may be asked for
    /// them in one call, which then ends as a whole.
    Together(usize),
    /// Deltas as they are generated, then how the path ended.
    Live,
}

/// Opens the paths of these numbers, which all begin with `prompt`.
pub fn open(prompt: &Arc<Prompt>, numbers: Range<usize>, phase: Phase, run: &Arc<Run>) -> Vec<Path> {
    numbers.map(|candidate| Path { candidate, phase, prompt: Arc::clone(prompt), run: Arc::clone(run) }).collect()
}

/// Extends one path to its end and returns what came of it, but waits no longer than the run's deadline.
///
/// # Errors
///
/// Why it failed; [`FailureKind::Deadline`] when its time was up.
///
/// # Cancel safety
///
/// Dropping the future ends the call.
pub async fn complete(generator: &dyn Generator, path: Path) -> Result<Completion, Failure> {
    let run = Arc::clone(&path.run);
    let end = async {
        let mut events = generator.extend(vec![path], Until::End, Delivery::Whole).await;
        while let Some((_, event)) = events.next().await {
            match event {
                StepEvent::Delta(_) => {}
                StepEvent::Finished(completion) => return Ok(completion),
                StepEvent::Failed(failure) => return Err(failure),
            }
        }
        Err(Failure::new(FailureKind::Internal, "the candidate ended without an answer"))
    };
    run.until_deadline(end).await?
}

/// An extension of which every path fails alike, before anything was spent.
pub fn refused(paths: &[Path], failure: &Failure) -> Box<dyn Extension> {
    Box::new(Refused(paths.iter().map(|path| (path.candidate, StepEvent::Failed(failure.clone()))).collect()))
}

struct Refused(VecDeque<(usize, StepEvent)>);

impl Stream for Refused {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

impl Extension for Refused {
    fn cancel(self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>> {
        std::future::ready(self.0.into()).boxed()
    }
}

/// Candidates from a remote provider.
pub fn remote(provider: impl Into<crate::providers::Provider>) -> Arc<dyn Generator> {
    Arc::new(remote::Remote::new(provider.into()))
}

/// Candidates from the in-process engine.
#[cfg(feature = "llama")]
pub fn local(engine: crate::llama::Engine) -> Arc<dyn Generator> {
    Arc::new(local::Local::new(engine))
}
