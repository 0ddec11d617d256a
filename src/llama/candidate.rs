//! One candidate while it is generated: its random state, its text, its log-probabilities, and what of it
//! has been streamed.

use std::fmt::Write as _;

use llama_cpp_2::token::LlamaToken;
use rand::distr::{Alphanumeric, SampleString};
use serde::Serialize;
use serde_json::value::RawValue;

use super::asked_form;
use super::deltas::{Unsent, content_fields, role_delta};
use super::grammar::{Compiled, Constraint, FormError, Progress};
use super::outlet::Seat;
use super::paths::Stepped;
use super::reply::{Piece, Reading, ReplyReader};
use super::request::Request;
use super::sampling::{Distribution, LEAST_LOGPROB, Sampler, SamplingError};
use super::steps::{Boundary, StepCutter};
use super::text::{StopMatcher, Utf8Decoder};
use super::vocabulary::Vocabulary;
use crate::completion::{Completion, Delta, FinishReason, Reply, Step, StepEvent, TokenSignals, ToolCall, Usage};
use crate::failure::{Failure, FailureKind};

/// The state of a running candidate.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Who hears of it, where it is told as it goes.
    seat: Option<Seat>,
    /// Where its steps end, where it goes step by step.
    steps: Option<Steps>,
    sampler: Sampler,
    /// Where the text is in the form that it must have.
    constraint: Option<Constraint>,
    decoder: Utf8Decoder,
    stops: StopMatcher,
    /// Tells what the text is as it comes.
    reader: ReplyReader,
    /// The text of a call that must be made, until it is whole.
    held: String,
    /// What of the message is certain.
    reasoning: String,
    content: String,
    calls: Vec<ToolCall>,
    /// Bytes decoded so far, those held back or cut off by a stop string included.
    decoded_bytes: usize,
    /// A stop string has ended the text: nothing that is still held back belongs to it.
    cut: bool,
    tokens: u32,
    logprob_sum: f64,
    logprobs: Vec<TokenLogprob>,
    signals: Vec<SeenToken>,
    /// The tokens of what the model thought, where that is given apart.
    reasoning_tokens: u64,
    role_sent: bool,
    /// What is certain and was not streamed yet.
    unsent: Vec<Unsent>,
    /// Entries of `logprobs` that were streamed.
    logprobs_sent: usize,
}

/// The step that a candidate is in.
#[derive(Debug, Clone)]
struct Steps {
    cutter: StepCutter,
    /// What became certain of its text.
    text: String,
    tokens: u32,
    /// Those of them that are part of a thought which is given apart.
    reasoning_tokens: u64,
    /// Entries of `signals` that belong to earlier steps.
    signals_told: usize,
}

/// A token's entry in the `logprobs` object.
#[derive(Debug, Clone)]
struct TokenLogprob {
    /// Where the token's text begins, in decoded bytes.
    start: usize,
    json: String,
}

/// A token as the run sees it.
#[derive(Debug, Clone)]
struct SeenToken {
    /// As in [`TokenLogprob`].
    start: usize,
    signals: TokenSignals,
}

/// Tokens of a prompt that a candidate accounts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PromptUsage {
    pub(super) tokens: u64,
    /// Those of them that were in the cache already.
    pub(super) cached: u64,
}

/// What a candidate does after a token.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Goes on with this token.
    Token(u32),
    /// Goes on with this token, which ends a step.
    StepEnd(u32),
    Ended(FinishReason),
}

impl Candidate {
    /// A candidate without a token yet, which answers a prompt of these tokens. Without a seat nobody hears of it but by
    /// what its methods return.
    pub(super) fn new(seat: Option<Seat>, seed: u64, request: &Request, prompt: &[LlamaToken]) -> Self {
        let thought = request.reading.as_ref().map(|reading| (reading.marks, reading.is_thought_opened));
        let steps = |rule| Steps {
            cutter: StepCutter::new(rule, thought),
            text: String::new(),
            tokens: 0,
            reasoning_tokens: 0,
            signals_told: 0,
        };
        let prompt = prompt.iter().map(|token| token.0.cast_unsigned());
        Self {
            seat,
            steps: request.steps.as_ref().map(steps),
            sampler: Sampler::new(seed, &request.plan, prompt),
            constraint: request.compiled.as_ref().map(Compiled::begin),
            decoder: Utf8Decoder::default(),
            stops: StopMatcher::new(request.stops.clone()),
            // What has a form has neither thoughts nor calls in it, whatever it looks like.
            reader: ReplyReader::new(request.reading.as_ref().filter(|_| request.form.is_none())),
            held: String::new(),
            reasoning: String::new(),
            content: String::new(),
            calls: Vec::new(),
            decoded_bytes: 0,
            cut: false,
            tokens: 0,
            logprob_sum: 0.0,
            logprobs: Vec::new(),
            signals: Vec::new(),
            reasoning_tokens: 0,
            role_sent: false,
            unsent: Vec::new(),
            logprobs_sent: 0,
        }
    }

    /// A candidate that goes on from here by the random numbers of another seed, and of which nobody hears.
    ///
    /// # Errors
    ///
    /// Why neither can go on.
    pub(super) fn fork(&mut self, seed: u64, request: &Request) -> Result<Self, Failure> {
        let constraint = match &mut self.constraint {
            Some(constraint) => Some(constraint.fork().map_err(|error| broken_form(&error, request))?),
            None => None,
        };
        let mut sampler = self.sampler.clone();
        sampler.reseed(seed);
        Ok(Self {
            seat: None,
            steps: self.steps.clone(),
            sampler,
            constraint,
            decoder: self.decoder.clone(),
            stops: self.stops.clone(),
            reader: self.reader.clone(),
            held: self.held.clone(),
            reasoning: self.reasoning.clone(),
            content: self.content.clone(),
            calls: self.calls.clone(),
            decoded_bytes: self.decoded_bytes,
            cut: self.cut,
            tokens: self.tokens,
            logprob_sum: self.logprob_sum,
            logprobs: self.logprobs.clone(),
            signals: self.signals.clone(),
            reasoning_tokens: self.reasoning_tokens,
            role_sent: self.role_sent,
            unsent: self.unsent.clone(),
            logprobs_sent: self.logprobs_sent,
        })
    }

    /// Draws the next token from its logits, and streams what text has become certain. `limit` is the
    /// greatest number of tokens that the candidate may have.
    ///
    /// # Errors
    ///
    /// Why the candidate cannot go on.
    pub(super) fn advance(
        &mut self,
        row: &[f32],
        limit: u32,
        request: &Request,
        vocabulary: &Vocabulary,
        scratch: &mut Vec<(u32, f64)>,
    ) -> Result<Next, Failure> {
        let allowed = match &mut self.constraint {
            Some(constraint) => Some(constraint.allowed().map_err(|error| broken_form(&error, request))?),
            None => None,
        };
        let temperature = self.steps.as_ref().and_then(|steps| steps.cutter.temperature());
        let drawn = match temperature {
            Some(temperature) => self.sampler.draw_at(temperature, row, &request.plan, allowed, scratch),
            None => self.sampler.draw(row, &request.plan, allowed, scratch),
        };
        let token = drawn.map_err(|error| not_drawn(&error))?;
        self.tokens += 1;
        if let Some(steps) = &mut self.steps {
            steps.tokens += 1;
        }
        // To work it out takes longer than to draw.
        let distribution = request.wants_logprobs.then(|| Distribution::of(row)).transpose();
        let distribution = distribution.map_err(|error| not_drawn(&error))?;
        if let Some(distribution) = &distribution {
            self.logprob_sum += logprob(distribution, token);
        }
        if vocabulary.ends_turn(token) {
            return Ok(Next::Ended(FinishReason::Stop));
        }
        if let Some(distribution) = &distribution
            && request.tells_logprobs()
        {
            self.note(token, distribution, request, vocabulary);
        }
        let mut decoded = String::new();
        self.decoder.push(&vocabulary.piece(token, request.tools_offered), &mut decoded);
        self.decoded_bytes += decoded.len();
        let mut text = String::new();
        let is_stopped = self.stops.push(&decoded, &mut text);
        let boundary = self.steps.as_mut().map_or(Boundary::Within, |steps| {
            steps.text.push_str(&text);
            steps.cutter.push(&decoded)
        });
        let pieces = self.reader.push(&text);
        self.take_pieces(pieces, request);
        let thought = u64::from(self.reader.is_thinking());
        self.reasoning_tokens += thought;
        if let Some(steps) = &mut self.steps {
            steps.reasoning_tokens += thought;
        }
        if is_stopped {
            // Tokens of the stop string are no part of the answer.
            self.cut = true;
            let end = self.reader.read_bytes();
            self.logprobs.retain(|entry| entry.start < end);
            self.signals.retain(|entry| entry.start < end);
            return Ok(Next::Ended(FinishReason::Stop));
        }
        if let Some(constraint) = &mut self.constraint {
            let progress = constraint.accept(token).map_err(|error| broken_form(&error, request))?;
            if progress == Progress::Complete {
                return Ok(Next::Ended(FinishReason::Stop));
            }
        }
        // What has a form ends where the form does.
        if boundary == Boundary::Path && self.constraint.is_none() {
            return Ok(Next::Ended(FinishReason::Stop));
        }
        if self.tokens >= limit {
            return Ok(Next::Ended(FinishReason::Length));
        }
        if request.live {
            self.stream(request);
        }
        match boundary {
            Boundary::Step | Boundary::Path => Ok(Next::StepEnd(token)),
            Boundary::Within => Ok(Next::Token(token)),
        }
    }

    /// Ends the candidate for a reason of its own and tells who hears of it. `prompt` is what this candidate accounts for of
    /// its prompt.
    pub(super) fn finish(mut self, reason: FinishReason, prompt: PromptUsage, request: &Request) {
        self.settle(request);
        let deltas = if request.live { self.last_deltas(request) } else { Vec::new() };
        if let Some(seat) = self.seat.take() {
            seat.end(deltas, StepEvent::Finished(self.into_completion(reason, prompt, request)));
        }
    }

    /// Ends the candidate for a reason of its own. What its last step adds, and the whole answer.
    pub(super) fn finish_path(mut self, reason: FinishReason, prompt: PromptUsage, request: &Request) -> Stepped {
        self.settle(request);
        let mut stepped = self.take_step();
        stepped.step.end = Some(self.into_completion(reason, prompt, request));
        stepped
    }

    /// What has come since the last step was taken, and what it has cost.
    pub(super) fn take_step(&mut self) -> Stepped {
        let Some(steps) = &mut self.steps else {
            let step = Step { text: String::new(), tokens: 0, signals: Vec::new(), end: None };
            return Stepped { step, usage: Usage::default() };
        };
        // A stop string may have taken tokens of earlier steps back.
        let told = steps.signals_told.min(self.signals.len());
        let signals = self.signals[told..].iter().map(|entry| entry.signals.clone()).collect();
        steps.signals_told = self.signals.len();
        let tokens = std::mem::take(&mut steps.tokens);
        let usage = Usage {
            completion_tokens: tokens.into(),
            reasoning_tokens: std::mem::take(&mut steps.reasoning_tokens),
            ..Usage::default()
        };
        let step = Step { text: std::mem::take(&mut steps.text), tokens, signals, end: None };
        Stepped { step, usage }
    }

    /// Decides what of the text is still undecided.
    fn settle(&mut self, request: &Request) {
        if !self.cut {
            let mut rest = String::new();
            self.decoder.finish(&mut rest);
            let mut text = String::new();
            // An incomplete character cannot complete a stop string.
            self.stops.push(&rest, &mut text);
            self.stops.finish(&mut text);
            if let Some(steps) = &mut self.steps {
                steps.text.push_str(&text);
            }
            let pieces = self.reader.push(&text);
            self.take_pieces(pieces, request);
        }
        let pieces = self.reader.finish();
        self.take_pieces(pieces, request);
        if !self.held.is_empty() {
            let text = std::mem::take(&mut self.held);
            // Cut short, it calls nothing and is content.
            let pieces = match asked_form::read_call(&text) {
                Some((name, arguments)) => vec![Piece::Call(name), Piece::Arguments(arguments)],
                None => vec![Piece::Content(text)],
            };
            self.keep_pieces(pieces, request);
        }
    }

    /// The answer, of which everything is decided.
    fn into_completion(self, reason: FinishReason, prompt: PromptUsage, request: &Request) -> Completion {
        let Self { reasoning, content, calls, .. } = self;
        let finish_reason = match reason {
            FinishReason::Stop if !calls.is_empty() => FinishReason::ToolCalls,
            reason => reason,
        };
        let reasoning = (!reasoning.is_empty()).then_some(reasoning);
        let content = (calls.is_empty() || !content.is_empty()).then_some(content);
        Completion {
            reply: Reply::with_reasoning(reasoning.as_deref(), content, calls),
            finish_reason,
            logprobs: request.top_logprobs.map(|_| logprobs_object(&self.logprobs)),
            tokens: request.signals.map(|_| self.signals.into_iter().map(|entry| entry.signals).collect()),
            mean_logprob: (request.wants_logprobs && self.tokens > 0)
                .then(|| self.logprob_sum / f64::from(self.tokens)),
            usage: Usage {
                prompt_tokens: prompt.tokens,
                cached_tokens: prompt.cached,
                completion_tokens: self.tokens.into(),
                reasoning_tokens: self.reasoning_tokens,
                ..Usage::default()
            },
        }
    }

    /// Ends the candidate for a reason outside of it.
    pub(super) fn fail(mut self, failure: Failure) {
        if let Some(seat) = self.seat.take() {
            seat.end([], StepEvent::Failed(failure));
        }
    }

    /// Notes what the client or the run wants to know of a token.
    fn note(&mut self, token: u32, distribution: &Distribution<'_>, request: &Request, vocabulary: &Vocabulary) {
        let start = self.decoded_bytes;
        let told = request.top_logprobs;
        let needed = request.signals;
        let most = told.into_iter().chain(needed.map(|needed| needed.top)).max().unwrap_or(0);
        let drawn = (token, logprob(distribution, token));
        let leaders = distribution.leaders(most.into());
        if let Some(top) = told {
            let json = logprob_entry(drawn, &leaders[..leaders.len().min(top.into())], vocabulary);
            self.logprobs.push(TokenLogprob { start, json });
        }
        if let Some(needed) = needed {
            let alternatives = leaders.iter().take(needed.top.into());
            let signals = TokenSignals {
                bytes: vocabulary.spelling(token).into(),
                logprob: drawn.1,
                top: alternatives.map(|(_, logprob)| logprob.max(LEAST_LOGPROB)).collect(),
                self_certainty: needed.self_certainty.then(|| distribution.self_certainty()),
            };
            self.signals.push(SeenToken { start, signals });
        }
    }

    /// Adds what has become certain to the message, or to the call that it must be.
    fn take_pieces(&mut self, pieces: Vec<Piece>, request: &Request) {
        if !request.form.as_ref().is_some_and(|form| form.is_call) {
            return self.keep_pieces(pieces, request);
        }
        for piece in pieces {
            if let Piece::Content(text) = piece {
                self.held.push_str(&text);
            }
        }
    }

    fn keep_pieces(&mut self, pieces: Vec<Piece>, request: &Request) {
        for piece in pieces {
            match &piece {
                Piece::Reasoning(text) => self.reasoning.push_str(text),
                Piece::Content(text) => self.content.push_str(text),
                Piece::Call(name) => self.calls.push(ToolCall::function(fresh_call_id(request), name.as_str(), "")),
                Piece::Arguments(text) => {
                    let call = self.calls.last_mut().expect("a call's name comes before its arguments");
                    call.arguments.push_str(text);
                }
            }
            if request.live {
                let call = self.calls.len().saturating_sub(1);
                Unsent::add(&mut self.unsent, piece, call);
            }
        }
    }

    fn stream(&mut self, request: &Request) {
        let Some(seat) = &self.seat else { return };
        if !self.role_sent {
            self.role_sent = seat.offer(role_delta());
        }
        if !self.role_sent {
            return;
        }
        let decided = self.reader.decided_bytes();
        let shown = self.logprobs.iter().take_while(|entry| entry.start < decided).count();
        let mut sent = 0;
        for part in &self.unsent {
            let before = self.logprobs_sent;
            let logprobs = take_logprobs(&self.logprobs, &mut self.logprobs_sent, request, shown);
            if !seat.offer(Delta { fields: part.fields(&self.calls), logprobs }) {
                self.logprobs_sent = before;
                break;
            }
            sent += 1;
        }
        self.unsent.drain(..sent);
    }

    /// What was not streamed yet, in as few deltas as room is reserved for.
    fn last_deltas(&mut self, request: &Request) -> Vec<Delta> {
        let mut deltas = Vec::new();
        if !self.role_sent {
            deltas.push(role_delta());
        }
        let count = self.logprobs.len();
        let mut logprobs = take_logprobs(&self.logprobs, &mut self.logprobs_sent, request, count);
        let joined = Unsent::joined(std::mem::take(&mut self.unsent), &self.calls);
        for fields in joined {
            deltas.push(Delta { fields, logprobs: logprobs.take() });
        }
        if logprobs.is_some() {
            deltas.push(Delta { fields: content_fields(""), logprobs });
        }
        deltas
    }
}

fn not_drawn(error: &SamplingError) -> Failure {
    match error {
        SamplingError::NoneLeft => Failure::invalid_param("logit_bias", error.to_string()),
        SamplingError::NotFinite | SamplingError::Empty => {
            Failure::new(FailureKind::Internal, format!("the in-process engine failed: {error}"))
        }
    }
}

/// The form was taken, and yet the text cannot be held to it: the request asks for too much.
fn broken_form(error: &FormError, request: &Request) -> Failure {
    let param = request.form.as_ref().map_or("response_format", |form| form.param);
    Failure::invalid_param(param, format!("`{param}`: {error}"))
}

/// The entries up to `end` that were not streamed yet, as a `logprobs` object.
fn take_logprobs(entries: &[TokenLogprob], sent: &mut usize, request: &Request, end: usize) -> Option<Box<RawValue>> {
    request.top_logprobs?;
    let unsent = entries.get(*sent..end).filter(|unsent| !unsent.is_empty())?;
    *sent = end;
    Some(logprobs_object(unsent))
}

/// The natural logarithm of a token's probability, at least [`LEAST_LOGPROB`].
fn logprob(distribution: &Distribution<'_>, token: u32) -> f64 {
    distribution.logprob(token).map_or(LEAST_LOGPROB, |logprob| logprob.max(LEAST_LOGPROB))
}

fn logprob_entry(drawn: (u32, f64), leaders: &[(u32, f64)], vocabulary: &Vocabulary) -> String {
    #[derive(Serialize)]
    struct Alternative {
        token: String,
        logprob: f64,
        bytes: Vec<u8>,
    }
    #[derive(Serialize)]
    struct Entry {
        #[serde(flatten)]
        token: Alternative,
        top_logprobs: Vec<Alternative>,
    }
    let alternative = |(token, logprob): (u32, f64)| {
        let bytes = vocabulary.spelling(token);
        let token = String::from_utf8_lossy(&bytes).into_owned();
        Alternative { token, logprob: logprob.max(LEAST_LOGPROB), bytes }
    };
    let entry = Entry { token: alternative(drawn), top_logprobs: leaders.iter().copied().map(alternative).collect() };
    serde_json::to_string(&entry).expect("strings and finite numbers always serialise")
}

fn logprobs_object(entries: &[TokenLogprob]) -> Box<RawValue> {
    let mut json = String::from(r#"{"content":["#);
    for (position, entry) in entries.iter().enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let _ = write!(json, "{comma}{}", entry.json);
    }
    json.push_str(r#"],"refusal":null}"#);
    RawValue::from_string(json).expect("put together from JSON")
}

fn fresh_call_id(request: &Request) -> String {
    let short = request.reading.as_ref().is_some_and(Reading::wants_short_ids);
    match short {
        true => Alphanumeric.sample_string(&mut rand::rng(), 9),
        false => format!("call_{}", Alphanumeric.sample_string(&mut rand::rng(), 24)),
    }
}
