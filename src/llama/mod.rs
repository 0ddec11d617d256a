//! The in-process engine: GGUF models run by llama.cpp within this process.
//!
//! An [`Engine`] is one loaded model with one thread that generates for every job at once. A job evaluates
//! its prompt once and samples all its candidates from it in parallel; jobs share the batch fairly. The
//! model's own chat template and tool-call format are used, so that a local model looks like a remote one.
//! Deliberately absent: images, embeddings, models with a recurrent state.
//!
//! The same seed gives the same text as long as the model computes the same logits. Batches of another
//! shape change logits in the fifth digit, so that under changing load a text may differ all the same.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use parking_lot::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

use crate::completion::{Prompt, StepEvent, StepRule};
use crate::failure::{Failure, FailureKind};

use context::{CheckedContext, ContextShape};
use engine::{Interruption, QueuedJob, Scoring, Shared, Waiting, Work};
use grammar::Grammars;
use outlet::Watch;
use paths::Search;
use reply::Reading;
use request::Request;
use scheduler::JobId;
use template::ChatTemplate;
use tool_calls::OfferedTool;
use vocabulary::Vocabulary;
use worker::Limits;

pub use engine::{Scored, TokenScore};
pub use paths::{Opening, SearchPath, Stepped};
pub use sampling::forked_seed;

mod engine;
mod worker;
mod scheduler;
mod shelf;
mod pace;
mod prefixes;
mod cells;
mod paths;
mod candidate;
mod steps;
mod deltas;
mod outlet;
mod request;
mod asked_form;
mod grammar;
mod template;
mod jinja;
mod python;
mod tool_calls;
mod reasoning;
mod reply;
mod text;
mod sampling;
mod vocabulary;
mod cutting;
mod context;
mod ffi;
mod gguf;
mod log;
#[cfg(test)]
mod tests;

/// The finish reason of a candidate that was given up because its job's receiver was closed.
pub const CANCELLED: &str = "cancelled";

/// The most candidates that may be generated at the same time.
pub const MAX_SEQUENCES: u32 = 192;

/// The most paths that one search may have at the same time.
pub const MAX_PATHS: usize = worker::MOST_PATHS;

/// Tokens of prompts that are kept when nobody needs them, where no number is given. Attention looks at every cell that is
/// used, whoever uses it, so that what is kept for nobody slows everybody down.
const DEFAULT_KEPT_TOKENS: u32 = 8192;

/// Memory that the cache may take when its size is not given.
const DEFAULT_CACHE_BYTES: u64 = 1 << 30;

/// Tensors below this size are computed on one thread by default: each operation then takes microseconds, and
/// with a second thread on a busy machine the 2 MB model was measured ten times slower.
const SMALL_MODEL_BYTES: u64 = 32 << 20;

/// Which model to load and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// A GGUF file.
    pub path: PathBuf,
    /// Tokens that the cache holds for all sequences together; a prompt counts once, however many candidates
    /// share it. A candidate starts when an expected length fits (an eighth of the context, or its equal part
    /// of the cache where that is more, or `max_tokens` where that is less) and grows while there is room; when
    /// there is none it waits, and at worst is evaluated a second time: no answer is cut for want of cache.
    /// `None`: enough for every sequence to grow to the model's training context, but no more than
    /// 1 GiB of cache takes, and at least one training context of up to 8,192 tokens. One sequence never
    /// grows beyond the training context.
    pub context_tokens: Option<u32>,
    /// Tokens of prompts and answers that stay in the cache when nobody needs them, for requests that begin with the
    /// same. `None`: one training context, 8,192 or half of the cache, whichever is least.
    pub kept_tokens: Option<u32>,
    /// Memory for prompts and answers that nobody needs and that make way in the cache for who works, from where they are
    /// fetched when somebody begins with the same. 0: none of them makes way before there is need of its room, and is
    /// forgotten then; so it is with a model on a GPU, too.
    pub kept_bytes: usize,
    /// Tokens evaluated in one batch; at least `max_sequences`.
    pub batch_tokens: u32,
    /// `None`: as many as the machine runs at the same time, and one for a model so small that threads would
    /// only wait for each other.
    pub threads: Option<usize>,
    /// Layers computed on a GPU, where the build has one; -1 means all.
    pub gpu_layers: i32,
    /// Candidates generated at the same time, 1 to [`MAX_SEQUENCES`]. More than these wait their turn.
    pub max_sequences: u32,
    /// Whether the file is mapped into memory instead of read into it.
    pub use_mmap: bool,
    /// Whether what the model thinks before it answers is given as `reasoning_content` instead of in the text.
    pub separate_reasoning: bool,
}

impl ModelSpec {
    /// A model with the defaults for everything else.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            context_tokens: None,
            kept_tokens: None,
            kept_bytes: 1 << 30,
            batch_tokens: 512,
            threads: None,
            gpu_layers: -1,
            max_sequences: 32,
            use_mmap: true,
            separate_reasoning: false,
        }
    }
}

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the model file {path} {reason}", path = .path.display())]
    File { path: PathBuf, reason: String },
    #[error("{0}")]
    Spec(String),
    #[error("llama.cpp could not load {path}: {reason}", path = .path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("the model {path} cannot be used: {reason}", path = .path.display())]
    Unsupported { path: PathBuf, reason: String },
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name` of the file, or else the file's name.
    pub name: String,
    /// The architecture in llama.cpp's words, such as `llama` or `qwen2`.
    pub architecture: String,
    /// The most tokens that a prompt and one answer may have together.
    pub context_length: u32,
    /// Tokens that the cache holds for all sequences together.
    pub cache_tokens: u32,
    pub parameters: u64,
    /// Size of the tensors in bytes.
    pub size_bytes: u64,
}

/// Figures of an engine for logs and metrics, each taken for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineStats {
    /// Jobs that have not begun.
    pub waiting_jobs: u64,
    /// Candidates being generated.
    pub live_sequences: u64,
    /// Cache tokens that running jobs hold or are expected to need.
    pub reserved_tokens: u64,
    /// Cache tokens of prompts and answers that nobody needs and that are kept for who may.
    pub kept_tokens: u64,
    /// Memory of prompts and answers that nobody needs and that have made way in the cache.
    pub shelved_bytes: u64,
    /// Prompt tokens evaluated since the model was loaded.
    pub prompt_tokens: u64,
    /// Prompt tokens that were in the cache already, or on their way, and were not evaluated again.
    pub shared_tokens: u64,
    /// Tokens generated since the model was loaded.
    pub generated_tokens: u64,
    /// Tokens evaluated since the model was loaded, of prompts and answers, each as often as it was.
    pub evaluated_tokens: u64,
    /// Tokens of the last batch.
    pub batch_tokens: u64,
    /// Tokens that candidates draw in a second of evaluation, of late.
    pub tokens_per_second: f64,
    /// Time spent in evaluations since the model was loaded.
    pub busy: Duration,
}

/// One question with its candidates.
#[derive(Debug)]
pub struct Job {
    pub prompt: Arc<Prompt>,
    pub candidates: Vec<CandidateSeed>,
    /// Whether deltas are sent as text appears.
    pub live: bool,
}

/// Whether putting a prompt in line compiles a form, which may take longer than a thread that serves others should be kept.
pub fn compiles_a_form(prompt: &Prompt) -> bool {
    asked_form::may_ask(prompt)
}

/// A candidate to generate: the index under which it is reported, and the seed of its random numbers. The number that
/// draws a token is a function of this seed and of the token's position in the answer, and of nothing else; see
/// [`forked_seed`] for paths that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateSeed {
    pub candidate: usize,
    pub seed: u64,
}

/// A loaded model and its thread. Dropping the last clone stops the thread and waits for it, which takes up
/// to one batch: do that where blocking is allowed. What is under way then fails as unavailable.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    vocabulary: Arc<Vocabulary>,
    template: ChatTemplate,
    shared: Arc<Shared>,
    separate_reasoning: bool,
    /// The length for which an answer needs room in the cache before it starts.
    expected_tokens: u32,
    /// Made for the first request that asks for a form: a large vocabulary takes a second.
    grammars: OnceLock<Grammars>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Loads a model and starts its thread. Blocks for as long as reading the file takes.
    ///
    /// # Errors
    ///
    /// When the file is missing, damaged or cut off, when llama.cpp does not know the model, when it has no
    /// chat template, or when memory is short. No file that fails here ends the process.
    pub fn load(spec: &ModelSpec) -> Result<Self, LoadError> {
        check_spec(spec)?;
        let path = spec.path.clone();
        gguf::check(&path).map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })?;
        let refused = |reason: String| LoadError::Refused { path: path.clone(), reason };
        let unsupported = |reason: String| LoadError::Unsupported { path: path.clone(), reason };

        let params = LlamaModelParams::default()
            .with_n_gpu_layers(u32::try_from(spec.gpu_layers).unwrap_or(u32::MAX))
            .with_use_mmap(spec.use_mmap);
        let backend = backend();
        let (model, errors) = log::listening(|| LlamaModel::load_from_file(backend, &path, &params));
        let model = Arc::new(model.map_err(|error| refused(said(errors, &error)))?);
        if model.is_recurrent() || model.is_hybrid() {
            return Err(unsupported("models with a recurrent state are not supported yet".into()));
        }
        if !ffi::is_decoder_only(&model) {
            return Err(unsupported(
                "it encodes what it is asked, as T5 does: choose a model that only generates".into(),
            ));
        }
        let source = model
            .chat_template(None)
            .ok()
            .and_then(|template| template.to_string().ok())
            .ok_or_else(|| unsupported("it has no chat template: choose a chat or instruct model".into()))?;
        let template = ChatTemplate::new(&source)
            .map_err(|error| unsupported(format!("its chat template cannot be compiled: {error}")))?;
        let vocabulary = Arc::new(Vocabulary::new(model.clone()).map_err(unsupported)?);

        let trained_context = model.n_ctx_train();
        let shape = ContextShape {
            cells: spec.context_tokens.unwrap_or_else(|| default_cells(&model, spec.max_sequences)),
            sequences: context::MAX_SEQUENCE_IDS,
            batch_tokens: spec.batch_tokens,
            threads: threads(spec.threads, &model),
        };
        let (shared, thread, shape) = start(model.clone(), vocabulary.clone(), shape, spec).map_err(refused)?;
        let info = ModelInfo {
            name: model
                .meta_val_str("general.name")
                .unwrap_or_else(|_| path.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
            architecture: model.meta_val_str("general.architecture").unwrap_or_default(),
            context_length: trained_context.min(shape.cells),
            cache_tokens: shape.cells,
            parameters: model.n_params(),
            size_bytes: model.size(),
        };
        tracing::info!(
            model = info.name,
            architecture = info.architecture,
            parameters = info.parameters,
            context_length = info.context_length,
            cache_tokens = info.cache_tokens,
            threads = shape.threads,
            "model loaded"
        );
        // An eighth of the context is more than most answers take, and a cache of one context then serves several
        // at the same time. A larger cache is shared out among as many as there may be.
        let expected_tokens = (info.context_length / 8).max(info.cache_tokens / spec.max_sequences).max(1);
        Ok(Self(Arc::new(Inner {
            info,
            vocabulary,
            template,
            shared,
            separate_reasoning: spec.separate_reasoning,
            expected_tokens,
            grammars: OnceLock::new(),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Puts a job in line. Each candidate is answered with exactly one `Finished` or `Failed`, after its
    /// deltas where the job is live; the channel closes after the last of them.
    ///
    /// Usage: the prompt is evaluated once, so its tokens stand in the candidate that finishes first and in no
    /// other; the sum over all candidates is what the job cost. The token that ends a turn counts, as it was
    /// computed. `logprobs` tells the visible tokens, `mean_logprob` is over all that were generated; both
    /// are the model's own, at temperature 1 and without penalties.
    ///
    /// A receiver that is dropped or closed cancels the job before the next token. Whoever closes it and reads
    /// on hears of every candidate what was generated so far, with the finish reason [`CANCELLED`] and its
    /// usage; whoever drops it hears nothing, and only [`Engine::stats`] still counts those tokens.
    ///
    /// A reader that is slow holds up nobody: deltas that find the channel full are joined.
    ///
    /// # Errors
    ///
    /// - a parameter that the engine or this model does not support, by name;
    /// - a form of the answer that is wrong, too large or cannot be kept, by the name of the parameter that asks for it;
    /// - messages that the model's chat template refuses;
    /// - `ContextLength` when the prompt leaves no room for an answer;
    /// - `Overloaded` when too many jobs wait.
    pub fn generate(&self, job: Job) -> Result<Receiver<(usize, StepEvent)>, Failure> {
        let (request, text) = self.read(&job.prompt, job.live)?;
        self.begin(&text, "messages", request, &job)
    }

    /// Puts a job in line whose candidates continue `text` as it stands: without a chat template, and control tokens
    /// that are written in it are such. The messages of its prompt are not read, and `mean_logprob` is told only with
    /// `logprobs`. All else is as for [`Engine::generate`].
    ///
    /// # Errors
    ///
    /// As [`Engine::generate`].
    pub fn continue_text(&self, text: &str, job: &Job) -> Result<Receiver<(usize, StepEvent)>, Failure> {
        let mut request = request::read(&job.prompt, job.live, self.0.vocabulary.size(), false)?;
        // Texts are not compared.
        request.wants_logprobs = request.tells_logprobs();
        self.begin(text, "prompt", request, job)
    }

    /// Puts a search in line: paths that are extended step by step, one for each seed. Each keeps what it has computed in
    /// the cache; a fork shares it.
    ///
    /// # Errors
    ///
    /// As [`Engine::generate`], and when more paths are asked for than [`MAX_PATHS`].
    pub fn search(
        &self,
        prompt: &Prompt,
        rule: Arc<StepRule>,
        seeds: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Opening, Failure> {
        if seeds.len() > MAX_PATHS {
            let message = format!(
                "a search of {} paths is more than the in-process engine holds at the same time, which is {MAX_PATHS}; lower \
                 `budget`",
                seeds.len()
            );
            return Err(Failure::invalid_param("budget", message));
        }
        let (request, text) = self.read(prompt, false)?;
        let request = Request { steps: Some(rule), ..request };
        let shared = &self.0.shared;
        let search = Arc::new(Search { job: JobId(shared.next_id()), shared: Arc::downgrade(shared) });
        let paths: Vec<_> = seeds.map(|seed| (shared.next_id(), seed)).collect();
        let (sender, opened) = oneshot::channel();
        let work = Work::Search { paths: paths.clone(), opened: Some(sender) };
        self.enqueue(&text, "messages", request, (search.job, Watch::Search(Arc::downgrade(&search)), work))?;
        Ok(Opening { search, paths, opened })
    }

    /// Says what the engine cannot do of a request for raw text, before anything is computed for it.
    ///
    /// # Errors
    ///
    /// A parameter that the engine or this model does not support, by name.
    pub fn check_text(&self, prompt: &Prompt) -> Result<(), Failure> {
        request::read(prompt, false, self.0.vocabulary.size(), false).map(drop)
    }

    /// What the model makes of each token of a text that it has not written: its log-probability, and up to `top` tokens that
    /// would have been the most probable in its place. The text stays as it is, control tokens in it are such, and a job
    /// that continues it afterwards finds it evaluated.
    ///
    /// # Errors
    ///
    /// - `ContextLength` when the text is longer than the context;
    /// - `Overloaded` when too many jobs wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the job up.
    pub async fn score(&self, text: &str, top: u8) -> Result<Scored, Failure> {
        let shared = &self.0.shared;
        let waiting = Waiting::new(shared);
        let (told, answer) = oneshot::channel();
        let work = Work::Score(Scoring { top, scored: Vec::new(), told: Some(told) });
        let id = JobId(shared.next_id());
        self.enqueue(text, "prompt", Request::plain(), (id, Watch::Waiting(waiting.watch()), work))?;
        answer.await.map_err(|_| Failure::new(FailureKind::Unavailable, "the in-process engine has stopped"))?
    }

    /// What is asked of the engine, and the text that the model's template makes of it.
    fn read(&self, prompt: &Prompt, live: bool) -> Result<(Request, String), Failure> {
        let Inner { vocabulary, template, .. } = &*self.0;
        let request = request::read(prompt, live, vocabulary.size(), template.takes_tools())?;
        let tools: Vec<&str> = match request.tools_offered {
            true => prompt.tools.iter().map(|tool| tool.definition.get()).collect(),
            false => Vec::new(),
        };
        let rendered = template.render(prompt.messages.get(), &tools, vocabulary)?;
        let offered = || prompt.tools.iter().filter_map(OfferedTool::of).collect();
        let reading = Reading {
            tools: request.tools_offered.then(|| (template.tool_format().clone(), offered())),
            marks: template.thought_marks(),
            is_thought_opened: template.thought_marks().are_opened_by(&rendered),
            separates_thoughts: self.0.separate_reasoning,
        };
        Ok((Request { reading: Some(reading), ..request }, rendered))
    }

    /// Puts the candidates of a job in line, which begin with `text`: what `param` of the request came to.
    fn begin(
        &self,
        text: &str,
        param: &str,
        request: Request,
        job: &Job,
    ) -> Result<Receiver<(usize, StepEvent)>, Failure> {
        if job.candidates.is_empty() {
            return Err(Failure::new(FailureKind::InvalidRequest, "a job needs at least one candidate"));
        }
        let (seats, watch, receiver) = outlet::open(job.candidates.iter().map(|seed| seed.candidate), job.live);
        let work = Work::Answers(seats.into_iter().zip(job.candidates.iter().map(|seed| seed.seed)).collect());
        self.enqueue(text, param, request, (JobId(self.0.shared.next_id()), watch, work))?;
        Ok(receiver)
    }

    fn enqueue(
        &self,
        text: &str,
        param: &str,
        mut request: Request,
        (id, watch, work): (JobId, Watch, Work),
    ) -> Result<(), Failure> {
        let Inner { info, vocabulary, shared, .. } = &*self.0;
        // A text that is far too long is not worth the time to tokenise.
        let fewest = vocabulary.fewest_tokens(text.len());
        if fewest > info.context_length as usize {
            return Err(too_long(&format!("the prompt has at least {fewest} tokens"), info));
        }
        let tokens = vocabulary.tokenize(text);
        if tokens.is_empty() {
            return Err(Failure::invalid_param(param, format!("`{param}` makes an empty prompt")));
        }
        let room = (info.context_length as usize).saturating_sub(tokens.len());
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        // A text that is scored needs no room for an answer.
        if room == 0 && !(matches!(work, Work::Score(_)) && tokens.len() == info.context_length as usize) {
            return Err(too_long(&format!("the prompt has {} tokens", tokens.len()), info));
        }
        if let Some(asked) = &request.form {
            request.compiled = Some(asked.compile(&self.0.grammars, vocabulary)?);
        }
        // A larger limit than there is room for is no error: the answer then ends by length, as it would have.
        let tokens_per_candidate = match work {
            Work::Score(_) => 0,
            _ => request.max_tokens.map_or(room, |limit| limit.min(room)),
        };
        shared.enqueue(QueuedJob {
            id,
            request: Arc::new(request),
            tokens: tokens.into(),
            tokens_per_candidate,
            tokens_expected: tokens_per_candidate.min(self.0.expected_tokens),
            watch,
            work,
        })
    }

    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Whether jobs are still taken. An engine that has ended by a defect does not come back: load the model
    /// again.
    pub fn is_alive(&self) -> bool {
        !self.0.shared.is_closed()
    }

    /// Ends the engine as a defect in its thread would.
    #[cfg(test)]
    pub(crate) fn end(&self) {
        self.0.shared.close();
    }

    pub fn stats(&self) -> EngineStats {
        let gauges = &self.0.shared.gauges;
        EngineStats {
            waiting_jobs: self.0.shared.waiting_jobs() as u64,
            live_sequences: gauges.live_sequences.load(Ordering::Relaxed),
            reserved_tokens: gauges.cells_reserved.load(Ordering::Relaxed),
            kept_tokens: gauges.cells_kept.load(Ordering::Relaxed),
            shelved_bytes: gauges.shelved_bytes.load(Ordering::Relaxed),
            prompt_tokens: gauges.prompt_tokens.load(Ordering::Relaxed),
            shared_tokens: gauges.shared_tokens.load(Ordering::Relaxed),
            generated_tokens: gauges.generated_tokens.load(Ordering::Relaxed),
            evaluated_tokens: gauges.evaluated_tokens.load(Ordering::Relaxed),
            batch_tokens: gauges.batch_tokens.load(Ordering::Relaxed),
            tokens_per_second: gauges.milli_tokens_per_second.load(Ordering::Relaxed) as f64 / 1e3,
            busy: Duration::from_micros(gauges.busy_us.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.get_mut().take() {
            // The thread catches its own panics, so there is nothing to hear of here.
            let _ = thread.join();
        }
    }
}

fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        log::install();
        LlamaBackend::init().expect("the backend is initialised here and nowhere else")
    })
}

fn check_spec(spec: &ModelSpec) -> Result<(), LoadError> {
    let wrong = |message: String| Err(LoadError::Spec(message));
    if spec.max_sequences == 0 || spec.max_sequences > MAX_SEQUENCES {
        return wrong(format!("max_sequences is {}: choose 1 to {MAX_SEQUENCES}", spec.max_sequences));
    }
    if spec.batch_tokens < spec.max_sequences || spec.batch_tokens > 1 << 16 {
        return wrong(format!(
            "batch_tokens is {}: choose at least max_sequences, which is {}, and at most 65536",
            spec.batch_tokens, spec.max_sequences
        ));
    }
    if spec.context_tokens.is_some_and(|tokens| tokens == 0 || tokens > 1 << 28) {
        return wrong("context_tokens must be between 1 and 268435456".into());
    }
    if spec.threads.is_some_and(|threads| threads == 0 || threads > 512) {
        return wrong("threads must be between 1 and 512".into());
    }
    if spec.gpu_layers < -1 {
        return wrong("gpu_layers must be -1 for all layers, or 0 or greater".into());
    }
    Ok(())
}

fn threads(wanted: Option<usize>, model: &LlamaModel) -> i32 {
    let threads = wanted.unwrap_or_else(|| match model.size() {
        ..SMALL_MODEL_BYTES => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    });
    i32::try_from(threads).unwrap_or(i32::MAX)
}

/// See [`ModelSpec::context_tokens`].
fn default_cells(model: &LlamaModel, sequences: u32) -> u32 {
    let usual = u64::from(model.n_embd().unsigned_abs()) / u64::from(model.n_head().max(1));
    let architecture = model.meta_val_str("general.architecture").unwrap_or_default();
    let width = |of: &str| {
        let key = format!("{architecture}.attention.{of}_length");
        model.meta_val_str(&key).ok().and_then(|width| width.parse().ok()).unwrap_or(usual)
    };
    let bytes_per_token =
        cache_bytes_per_token(model.n_layer(), model.n_head_kv().max(1), width("key"), width("value"));
    let trained = u64::from(model.n_ctx_train());
    let affordable = (DEFAULT_CACHE_BYTES / bytes_per_token.max(1)).max(trained.min(8192));
    let cells = (trained * u64::from(sequences)).min(affordable).max(1);
    u32::try_from(cells).unwrap_or(u32::MAX)
}

/// Keys and values have two bytes a number.
fn cache_bytes_per_token(layers: u32, heads: u32, key_width: u64, value_width: u64) -> u64 {
    2 * u64::from(layers) * u64::from(heads) * key_width.saturating_add(value_width)
}

type Started = (Arc<Shared>, JoinHandle<()>, ContextShape);

/// Starts the thread and waits until it has made its context.
fn start(
    model: Arc<LlamaModel>,
    vocabulary: Arc<Vocabulary>,
    shape: ContextShape,
    spec: &ModelSpec,
) -> Result<Started, String> {
    let shared = Arc::new(Shared::default());
    let (ready, made) = mpsc::sync_channel(1);
    let of_thread = shared.clone();
    let (answers, kept_tokens) = (spec.max_sequences as usize, spec.kept_tokens);
    // Who keeps nothing keeps nothing anywhere. From a GPU a text is copied cell by cell, which may take longer than to
    // read it there again.
    let is_on_gpu = spec.gpu_layers != 0 && backend().supports_gpu_offload();
    let shelf_bytes = if kept_tokens == Some(0) || is_on_gpu { 0 } else { spec.kept_bytes };
    let thread = std::thread::Builder::new()
        .name("llama".into())
        .spawn(move || {
            let (context, errors) = log::listening(|| {
                let interrupt = Arc::new(Interruption(of_thread.clone()));
                CheckedContext::new(backend(), &model, shape, interrupt)
            });
            let context = match context {
                Ok(context) => context,
                Err(error) => {
                    let _ = ready.send(Err(if errors.is_empty() { error.to_owned() } else { errors }));
                    return;
                }
            };
            let made = context.shape();
            let _ = ready.send(Ok(made));
            let usual = model.n_ctx_train().min(DEFAULT_KEPT_TOKENS).min(made.cells / 2);
            let kept_cells = kept_tokens.unwrap_or(usual);
            let limits =
                Limits { cells: made.cells, kept_cells, shelf_bytes, answers, batch_tokens: made.batch_tokens };
            engine::run(&of_thread, context, &vocabulary, limits);
        })
        .map_err(|error| format!("its thread cannot be started: {error}"))?;
    let shape = made.recv().unwrap_or_else(|_| Err("its thread ended at once".into()))?;
    Ok((shared, thread, shape))
}

/// What llama.cpp said, or else the binding's error.
fn said(errors: String, error: &dyn std::error::Error) -> String {
    if errors.is_empty() { error.to_string() } else { errors }
}

fn too_long(wanted: &str, info: &ModelInfo) -> Failure {
    let message = format!(
        "Input exceeds maximum context length: {wanted}, but this model takes {} tokens for both together",
        info.context_length
    );
    Failure::new(FailureKind::ContextLength, message)
}
