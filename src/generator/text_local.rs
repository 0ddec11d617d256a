//! Raw texts continued by the in-process engine, told in the shape of OpenAI's legacy API.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all, unfold};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::local::{Generating, LONG_PROMPT_BYTES, on_a_thread_of_its_own};
use super::{Members, Phase, Run, TextAnswer, TextRequest};
use crate::completion::{Completion, MaxTokens, MaxTokensName, Prompt, StepEvent};
use crate::failure::{Failure, FailureKind};
use crate::llama::{CandidateSeed, Engine, Job, Scored, TokenScore, compiles_a_form};

/// The length limit of requests that name none, as that API has it.
const DEFAULT_MAX_TOKENS: MaxTokens = MaxTokens { tokens: 16, name: MaxTokensName::MaxTokens };
/// Texts times continuations, as many as a chat request may have candidates.
const MAX_CONTINUATIONS: usize = 1000;

/// Continues the texts of a request.
///
/// # Errors
///
/// What the engine cannot do, by the name of the field, and what went wrong.
pub(super) async fn continue_texts(
    engine: &Engine,
    request: TextRequest,
    run: Arc<Run>,
) -> Result<TextAnswer, Failure> {
    let texts = check(&request)?;
    let prompt = Arc::new(prompt(&request));
    engine.check_text(&prompt)?;
    let mut echoed = Vec::new();
    let mut jobs = Vec::with_capacity(texts.len());
    for (number, text) in texts.iter().enumerate() {
        echoed.extend(echo(engine, &request, text, &run).await?);
        let numbers = number * request.n..(number + 1) * request.n;
        let seed = |candidate| CandidateSeed { candidate, seed: run.local_seed(Phase::Generate, candidate) };
        let job =
            Job { prompt: Arc::clone(&prompt), candidates: numbers.clone().map(seed).collect(), live: request.stream };
        let events = if text.len() > LONG_PROMPT_BYTES || compiles_a_form(&prompt) {
            let (engine, text) = (engine.clone(), text.clone());
            on_a_thread_of_its_own(move || engine.continue_text(&text, &job)).await?
        } else {
            engine.continue_text(text, &job)?
        };
        jobs.push(Generating::new(events, numbers.map(|number| (number, run.ledger.begin(Phase::Generate))).collect()));
    }
    let continuing = Continuing { events: select_all(jobs), texts, echoed, request, run };
    if continuing.request.stream {
        return Ok(TextAnswer::Stream(continuing.stream()));
    }
    continuing.whole().await.map(TextAnswer::Whole)
}

fn check(request: &TextRequest) -> Result<Vec<String>, Failure> {
    let refused = |param: &str, message: &str| {
        let failure = Failure::invalid_param(param, message);
        Err(Failure { kind: FailureKind::NotSupported, ..failure })
    };
    let Some(texts) = request.texts.clone() else {
        return refused("prompt", "a `prompt` of tokens is not supported by the in-process engine; send text");
    };
    if texts.len().saturating_mul(request.n) > MAX_CONTINUATIONS {
        let message = format!("`prompt` and `n` together ask for more than {MAX_CONTINUATIONS} continuations");
        return Err(Failure::invalid_param("n", message));
    }
    match request.logprobs {
        Some(logprobs) if logprobs.top > 20 => {
            Err(Failure::invalid_param("logprobs", "`logprobs` must be between 0 and 20"))
        }
        _ => Ok(texts),
    }
}

/// What the model makes of a text itself, where that is told again with log-probabilities. Its continuations, which are put
/// in line right after, find it evaluated.
async fn echo(
    engine: &Engine,
    request: &TextRequest,
    text: &str,
    run: &Run,
) -> Result<Option<LegacyLogprobs>, Failure> {
    let Some(logprobs) = request.logprobs.filter(|_| request.echo) else { return Ok(None) };
    let call = run.ledger.begin(Phase::Generate);
    let Scored { tokens, .. } = engine.score(text, logprobs.top).await?;
    // The continuations account for the text.
    call.withdraw();
    Ok(Some(LegacyLogprobs::of_text(text, tokens)))
}

/// What the engine reads of a request, beside the text.
fn prompt(request: &TextRequest) -> Prompt {
    let mut sampling = request.sampling.clone();
    sampling.max_tokens = sampling.max_tokens.or(Some(DEFAULT_MAX_TOKENS));
    let mut passthrough = request.others.clone();
    // The best of as many as are returned are all of them.
    let drawn = passthrough.get("best_of").and_then(|value| value.get().parse().ok());
    if drawn == Some(request.n) {
        passthrough.remove("best_of");
    }
    Prompt {
        model: request.model.clone(),
        messages: RawValue::from_string("[]".to_owned()).expect("an empty array is JSON"),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling,
        logprobs: request.logprobs,
        signals: None,
        passthrough,
    }
}

/// Texts being continued. Dropping it ends every continuation.
struct Continuing {
    events: SelectAll<Generating>,
    texts: Vec<String>,
    /// One for each text, or none.
    echoed: Vec<LegacyLogprobs>,
    request: TextRequest,
    run: Arc<Run>,
}

impl Continuing {
    async fn whole(mut self) -> Result<Members, Failure> {
        let mut choices = BTreeMap::new();
        while let Some((number, event)) = self.events.next().await {
            match event {
                StepEvent::Delta(_) => {}
                StepEvent::Failed(failure) => return Err(failure),
                StepEvent::Finished(completion) => drop(choices.insert(number, self.choice(number, &completion))),
            }
        }
        let choices: Vec<_> = choices.into_values().collect();
        Ok([("choices", raw(&choices)), ("usage", self.usage())].map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn choice(&self, number: usize, completion: &Completion) -> Choice {
        let continuation = completion.reply.content().unwrap_or_default();
        let text = match self.request.echo {
            true => format!("{}{continuation}", self.text(number)),
            false => continuation.to_owned(),
        };
        let mut offset = self.offset(number);
        let told = completion.logprobs.as_deref().map(|logprobs| LegacyLogprobs::of(logprobs, &mut offset));
        let logprobs = match (self.echoed(number).cloned(), told) {
            (Some(echoed), Some(told)) => Some(echoed.followed_by(told)),
            (echoed, told) => echoed.or(told),
        };
        Choice { text, index: number, logprobs, finish_reason: Some(completion.finish_reason.as_str().to_owned()) }
    }

    fn text(&self, number: usize) -> &str {
        &self.texts[number / self.request.n]
    }

    fn echoed(&self, number: usize) -> Option<&LegacyLogprobs> {
        self.echoed.get(number / self.request.n)
    }

    /// Where a continuation begins, in characters of what is told of it.
    fn offset(&self, number: usize) -> usize {
        if self.request.echo { self.text(number).chars().count() } else { 0 }
    }

    fn usage(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        struct LegacyUsage {
            prompt_tokens: u64,
            completion_tokens: u64,
            total_tokens: u64,
        }
        let usage = self.run.ledger.total();
        raw(&LegacyUsage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
        })
    }

    fn stream(self) -> futures_util::stream::BoxStream<'static, Result<Members, Failure>> {
        let mut waiting = VecDeque::new();
        if self.request.echo {
            for number in 0..self.texts.len() * self.request.n {
                let text = self.text(number).to_owned();
                let logprobs = self.echoed(number).cloned();
                waiting.push_back(self.chunk(Choice { text, index: number, logprobs, finish_reason: None }));
            }
        }
        let streaming = Streaming { continuing: self, waiting, offsets: BTreeMap::new(), is_over: false };
        unfold(streaming, |mut streaming| async move { streaming.next().await.map(|chunk| (chunk, streaming)) }).boxed()
    }

    fn chunk(&self, choice: Choice) -> Members {
        let mut chunk = Members::from([("choices".to_owned(), raw(&[choice]))]);
        if self.request.include_usage {
            // Every chunk has the field; only the last has something in it.
            chunk.insert("usage".to_owned(), raw(&()));
        }
        chunk
    }
}

struct Streaming {
    continuing: Continuing,
    waiting: VecDeque<Members>,
    /// Characters of each continuation that were told with log-probabilities.
    offsets: BTreeMap<usize, usize>,
    is_over: bool,
}

impl Streaming {
    async fn next(&mut self) -> Option<Result<Members, Failure>> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Some(Ok(chunk));
            }
            if self.is_over {
                return None;
            }
            match self.continuing.events.next().await {
                Some((number, StepEvent::Delta(delta))) => {
                    let text = content(&delta.fields);
                    let begin = || self.continuing.offset(number);
                    let offset = self.offsets.entry(number).or_insert_with(begin);
                    let logprobs = delta.logprobs.as_deref().map(|logprobs| LegacyLogprobs::of(logprobs, offset));
                    if !text.is_empty() || logprobs.is_some() {
                        let choice = Choice { text, index: number, logprobs, finish_reason: None };
                        return Some(Ok(self.continuing.chunk(choice)));
                    }
                }
                Some((number, StepEvent::Finished(completion))) => {
                    let finish_reason = Some(completion.finish_reason.as_str().to_owned());
                    let choice = Choice { text: String::new(), index: number, logprobs: None, finish_reason };
                    return Some(Ok(self.continuing.chunk(choice)));
                }
                Some((_, StepEvent::Failed(failure))) => {
                    self.is_over = true;
                    return Some(Err(failure));
                }
                None => {
                    self.is_over = true;
                    if self.continuing.request.include_usage {
                        let members = [("choices", raw::<[(); 0]>(&[])), ("usage", self.continuing.usage())];
                        self.waiting.push_back(members.map(|(name, value)| (name.to_owned(), value)).into());
                    }
                }
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Choice {
    text: String,
    index: usize,
    logprobs: Option<LegacyLogprobs>,
    finish_reason: Option<String>,
}

/// Log-probabilities in four lists, an entry of each for every token.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct LegacyLogprobs {
    tokens: Vec<String>,
    /// Nothing of a token before which there is none.
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
    /// In characters of what is told.
    text_offset: Vec<usize>,
}

impl LegacyLogprobs {
    /// Log-probabilities of tokens that begin `offset` characters into the continuation, which is moved to their
    /// end.
    fn of(logprobs: &RawValue, offset: &mut usize) -> Self {
        #[derive(Deserialize)]
        struct View {
            content: Vec<Token>,
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
            logprob: f64,
            bytes: Vec<u8>,
            top_logprobs: Vec<Alternative>,
        }
        #[derive(Deserialize)]
        struct Alternative {
            token: String,
            logprob: f64,
        }
        let view: View = serde_json::from_str(logprobs.get()).expect("the engine writes its log-probabilities so");
        let mut lists = Self::default();
        for token in view.content {
            lists.text_offset.push(*offset);
            *offset += characters(&token.bytes);
            if !token.top_logprobs.is_empty() {
                // The API tells of the drawn token too where it is not among the most probable ones.
                let drawn = (token.token.clone(), token.logprob);
                let top = token.top_logprobs.into_iter().map(|other| (other.token, other.logprob));
                lists.top_logprobs.get_or_insert_default().push(Some([drawn].into_iter().chain(top).collect()));
            }
            lists.tokens.push(token.token);
            lists.token_logprobs.push(Some(token.logprob));
        }
        lists
    }

    /// Those of a text that was asked with. A token that the model wants before every text, and that is not in this one,
    /// is left out.
    fn of_text(text: &str, mut tokens: Vec<TokenScore>) -> Self {
        let length: usize = tokens.iter().map(|token| token.bytes.len()).sum();
        if length > text.len() {
            tokens.remove(0);
        }
        let written = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let has_top = tokens.iter().any(|token| !token.top.is_empty());
        let mut lists = Self { top_logprobs: has_top.then(Vec::new), ..Self::default() };
        let mut offset = 0;
        for TokenScore { bytes, logprob, top } in tokens {
            lists.text_offset.push(offset);
            offset += characters(&bytes);
            if let Some(tops) = &mut lists.top_logprobs {
                let itself = logprob.map(|logprob| (written(&bytes), logprob));
                let others = top.into_iter().map(|(bytes, logprob)| (written(&bytes), logprob));
                tops.push(logprob.map(|_| itself.into_iter().chain(others).collect()));
            }
            lists.tokens.push(written(&bytes));
            lists.token_logprobs.push(logprob);
        }
        lists
    }

    fn followed_by(mut self, next: Self) -> Self {
        self.tokens.extend(next.tokens);
        self.token_logprobs.extend(next.token_logprobs);
        if let (Some(tops), Some(next)) = (&mut self.top_logprobs, next.top_logprobs) {
            tops.extend(next);
        }
        self.text_offset.extend(next.text_offset);
        self
    }
}

/// Characters that begin in these bytes: one is counted with its first byte, whichever token has the others.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn content(fields: &RawValue) -> String {
    #[derive(Deserialize)]
    struct View {
        content: Option<String>,
    }
    serde_json::from_str::<View>(fields.get()).ok().and_then(|view| view.content).unwrap_or_default()
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("strings and finite numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_become_lists_with_offsets_in_characters() {
        // The é is split between two tokens.
        let chat = serde_json::json!({"content": [
            {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}]},
            {"token": "\u{fffd}", "logprob": -1.0, "bytes": [195], "top_logprobs": [{"token": "b", "logprob": -0.1, "bytes": [98]}]},
            {"token": "\u{fffd}", "logprob": -2.0, "bytes": [169], "top_logprobs": [{"token": "c", "logprob": -0.2, "bytes": [99]}]},
            {"token": "!", "logprob": -3.0, "bytes": [33], "top_logprobs": [{"token": "!", "logprob": -3.0, "bytes": [33]}]}
        ], "refusal": null});
        let mut offset = 10;
        let lists = LegacyLogprobs::of(&raw(&chat), &mut offset);
        assert_eq!(lists.token_logprobs, [-0.5, -1.0, -2.0, -3.0].map(Some));
        assert_eq!(lists.text_offset, [10, 11, 12, 12]);
        assert_eq!(offset, 13);
        assert_eq!(
            lists.top_logprobs.unwrap()[1],
            Some(BTreeMap::from([("b".to_owned(), -0.1), ("\u{fffd}".to_owned(), -1.0)]))
        );
        let none = LegacyLogprobs::of(&raw(&serde_json::json!({"content": [], "refusal": null})), &mut 0);
        assert_eq!(none, LegacyLogprobs::default());
    }
}
