//! One candidate while it is generated: its random state, its text, its log-probabilities, and what of it
//! has been streamed.

use std::fmt::Write as _;

use llama_cpp_2::token::LlamaToken;
use rand::distr::{Alphanumeric, SampleString};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::asked_form;
use super::grammar::{Compiled, Constraint, FormError, Progress};
use super::outlet::Seat;
use super::request::Request;
use super::sampling::{self, Drawn, LEAST_LOGPROB, Sampler, SamplingError};
use super::text::{StopMatcher, Utf8Decoder};
use super::tool_calls;
use super::vocabulary::Vocabulary;
use crate::completion::{Completion, Delta, FinishReason, Reply, StepEvent, TokenSignals, ToolCall, Usage};
use crate::failure::{Failure, FailureKind};

/// The state of a running candidate.
#[derive(Debug)]
pub(super) struct Candidate {
    seat: Seat,
    sampler: Sampler,
    /// Where the text is in the form that it must have.
    constraint: Option<Constraint>,
    decoder: Utf8Decoder,
    stops: StopMatcher,
    /// The text as the client may see it.
    text: String,
    /// Bytes decoded so far, those held back or cut off by a stop string included.
    decoded_bytes: usize,
    /// A stop string has ended the text: nothing that is still held back belongs to it.
    cut: bool,
    tokens: u32,
    logprob_sum: f64,
    logprobs: Vec<TokenLogprob>,
    signals: Vec<SeenToken>,
    role_sent: bool,
    /// Bytes of `text` and entries of `logprobs` that were streamed.
    text_sent: usize,
    logprobs_sent: usize,
}

/// A token's entry in the `logprobs` object.
#[derive(Debug)]
struct TokenLogprob {
    /// Where the token's text begins, in decoded bytes.
    start: usize,
    json: String,
}

/// A token as the run sees it.
#[derive(Debug)]
struct SeenToken {
    /// As in [`TokenLogprob`].
    start: usize,
    signals: TokenSignals,
}

/// What a candidate does after a token.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Goes on with this token.
    Token(u32),
    Ended(FinishReason),
}

impl Candidate {
    /// A candidate without a token yet, which answers a prompt of these tokens.
    pub(super) fn new(seat: Seat, seed: u64, request: &Request, prompt: &[LlamaToken]) -> Self {
        let prompt = prompt.iter().map(|token| token.0.cast_unsigned());
        Self {
            seat,
            sampler: Sampler::new(seed, &request.plan, prompt),
            constraint: request.compiled.as_ref().map(Compiled::begin),
            decoder: Utf8Decoder::default(),
            stops: StopMatcher::new(request.stops.clone()),
            text: String::new(),
            decoded_bytes: 0,
            cut: false,
            tokens: 0,
            logprob_sum: 0.0,
            logprobs: Vec::new(),
            signals: Vec::new(),
            role_sent: false,
            text_sent: 0,
            logprobs_sent: 0,
        }
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
        let drawn = self.sampler.draw(row, &request.plan, allowed, scratch).map_err(|error| not_drawn(&error))?;
        self.tokens += 1;
        self.logprob_sum += drawn.logprob.max(LEAST_LOGPROB);
        if vocabulary.ends_turn(drawn.token) {
            return Ok(Next::Ended(FinishReason::Stop));
        }
        if request.top_logprobs.is_some() || request.signals.is_some() {
            self.note(drawn, row, request, vocabulary).map_err(|error| not_drawn(&error))?;
        }
        let mut decoded = String::new();
        self.decoder.push(&vocabulary.piece(drawn.token, request.tools_offered), &mut decoded);
        self.decoded_bytes += decoded.len();
        if self.stops.push(&decoded, &mut self.text) {
            // Tokens of the stop string are no part of the answer.
            self.cut = true;
            let end = self.text.len();
            self.logprobs.retain(|entry| entry.start < end);
            self.signals.retain(|entry| entry.start < end);
            return Ok(Next::Ended(FinishReason::Stop));
        }
        if let Some(constraint) = &mut self.constraint {
            let progress = constraint.accept(drawn.token).map_err(|error| broken_form(&error, request))?;
            if progress == Progress::Complete {
                return Ok(Next::Ended(FinishReason::Stop));
            }
        }
        if self.tokens >= limit {
            return Ok(Next::Ended(FinishReason::Length));
        }
        if request.live {
            self.stream(request);
        }
        Ok(Next::Token(drawn.token))
    }

    /// Ends the candidate for a reason of its own. `prompt_tokens` are those that this candidate accounts for.
    pub(super) fn finish(mut self, reason: FinishReason, prompt_tokens: u64, request: &Request) {
        if !self.cut {
            let mut rest = String::new();
            self.decoder.finish(&mut rest);
            // An incomplete character cannot complete a stop string.
            self.stops.push(&rest, &mut self.text);
            self.stops.finish(&mut self.text);
        }
        let text = std::mem::take(&mut self.text);
        let (content, calls) = read_reply(text, request);
        let finish_reason = match reason {
            FinishReason::Stop if !calls.is_empty() => FinishReason::ToolCalls,
            reason => reason,
        };
        let mut deltas = Vec::new();
        if request.live {
            if !self.role_sent {
                deltas.push(role_delta());
            }
            let rest = content.as_deref().and_then(|content| content.get(self.text_sent..)).unwrap_or_default();
            let logprobs = self.take_logprobs(request, self.logprobs.len());
            if !rest.is_empty() || logprobs.is_some() {
                deltas.push(Delta { fields: content_fields(rest), logprobs });
            }
            if !calls.is_empty() {
                deltas.push(calls_delta(&calls));
            }
        }
        let completion = Completion {
            reply: Reply::new(content, calls),
            finish_reason,
            logprobs: request.top_logprobs.map(|_| logprobs_object(&self.logprobs)),
            tokens: request.signals.map(|_| self.signals.into_iter().map(|entry| entry.signals).collect()),
            mean_logprob: (self.tokens > 0).then(|| self.logprob_sum / f64::from(self.tokens)),
            usage: Usage { prompt_tokens, completion_tokens: self.tokens.into(), ..Usage::default() },
        };
        self.seat.end(deltas, StepEvent::Finished(completion));
    }

    /// Ends the candidate for a reason outside of it.
    pub(super) fn fail(self, failure: Failure) {
        self.seat.end([], StepEvent::Failed(failure));
    }

    /// Notes what the client or the run wants to know of a token.
    fn note(
        &mut self,
        drawn: Drawn,
        row: &[f32],
        request: &Request,
        vocabulary: &Vocabulary,
    ) -> Result<(), SamplingError> {
        let start = self.decoded_bytes;
        let told = request.top_logprobs;
        let needed = request.signals;
        let most = told.into_iter().chain(needed.map(|needed| needed.top)).max().unwrap_or(0);
        let with_certainty = needed.is_some_and(|needed| needed.self_certainty);
        let normaliser = if most > 0 || with_certainty { sampling::log_sum_exp(row)? } else { 0.0 };
        let leaders = if most > 0 { sampling::leaders(row, normaliser, most.into()) } else { Vec::new() };
        if let Some(top) = told {
            let json = logprob_entry(drawn, &leaders[..leaders.len().min(top.into())], vocabulary);
            self.logprobs.push(TokenLogprob { start, json });
        }
        if let Some(needed) = needed {
            let alternatives = leaders.iter().take(needed.top.into());
            let signals = TokenSignals {
                bytes: vocabulary.spelling(drawn.token).into(),
                logprob: drawn.logprob.max(LEAST_LOGPROB),
                top: alternatives.map(|(_, logprob)| logprob.max(LEAST_LOGPROB)).collect(),
                self_certainty: with_certainty.then(|| sampling::self_certainty(row, normaliser)),
            };
            self.signals.push(SeenToken { start, signals });
        }
        Ok(())
    }

    fn stream(&mut self, request: &Request) {
        if !self.role_sent {
            self.role_sent = self.seat.offer(role_delta());
        }
        if request.form.as_ref().is_some_and(|form| form.is_call) {
            // It is a call, and content only if it is cut short.
            return;
        }
        let certain =
            if request.tools_offered { tool_calls::releasable(&self.text, self.text_sent) } else { self.text.len() };
        if !self.role_sent || certain <= self.text_sent {
            return;
        }
        let shown = self.logprobs.iter().take_while(|entry| entry.start < certain).count();
        let before = self.logprobs_sent;
        let logprobs = self.take_logprobs(request, shown);
        let fields = content_fields(&self.text[self.text_sent..certain]);
        if self.seat.offer(Delta { fields, logprobs }) {
            self.text_sent = certain;
        } else {
            self.logprobs_sent = before;
        }
    }

    /// The entries up to `end` that were not streamed yet, as a `logprobs` object.
    fn take_logprobs(&mut self, request: &Request, end: usize) -> Option<Box<RawValue>> {
        request.top_logprobs?;
        let entries = self.logprobs.get(self.logprobs_sent..end).filter(|entries| !entries.is_empty())?;
        let object = logprobs_object(entries);
        self.logprobs_sent = end;
        Some(object)
    }
}

/// What a text says and what it calls.
fn read_reply(text: String, request: &Request) -> (Option<String>, Vec<ToolCall>) {
    if request.form.as_ref().is_some_and(|form| form.is_call)
        && let Some((name, arguments)) = asked_form::read_call(&text)
    {
        return (None, vec![ToolCall::function(fresh_call_id(), name, arguments)]);
    }
    let calling =
        if request.tools_offered { tool_calls::parse(&text, &request.tool_names, fresh_call_id) } else { None };
    match calling {
        Some(reply) => (reply.content, reply.calls),
        None => (Some(text), Vec::new()),
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

fn logprob_entry(drawn: Drawn, leaders: &[(u32, f64)], vocabulary: &Vocabulary) -> String {
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
    let entry = Entry {
        token: alternative((drawn.token, drawn.logprob)),
        top_logprobs: leaders.iter().copied().map(alternative).collect(),
    };
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

fn role_delta() -> Delta {
    let fields = RawValue::from_string(r#"{"role":"assistant","content":""}"#.to_owned()).expect("a JSON object");
    Delta { fields, logprobs: None }
}

fn content_fields(text: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Fields<'a> {
        content: &'a str,
    }
    to_raw_value(&Fields { content: text }).expect("strings always serialise")
}

fn calls_delta(calls: &[ToolCall]) -> Delta {
    let calls: Vec<serde_json::Value> = calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            serde_json::json!({
                "index": index,
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })
        })
        .collect();
    let fields = to_raw_value(&serde_json::json!({ "tool_calls": calls })).expect("strings always serialise");
    Delta { fields, logprobs: None }
}

fn fresh_call_id() -> String {
    format!("call_{}", Alphanumeric.sample_string(&mut rand::rng(), 24))
}
