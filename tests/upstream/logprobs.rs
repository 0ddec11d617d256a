//! Log-probabilities in the shape of each server.

use serde_json::{Value, json};

use super::chat::Chat;
use super::completion::words;
use super::profile::LogprobShape;
use super::script::Step;

/// What is told of the words of `text`, of which `first` words of the content come before it.
pub fn logprobs(chat: &Chat, step: &Step, first: usize, text: &str) -> Value {
    let scripted = step.logprobs.as_deref();
    let wish = &chat.body["logprobs"];
    let is_wanted = wish == true || wish.as_u64().is_some_and(|count| count > 0);
    if !is_wanted || scripted.is_some_and(<[f64]>::is_empty) {
        return Value::Null;
    }
    let of_word = |at: usize| scripted.map_or(-0.25, |logprobs| logprobs[(first + at) % logprobs.len()]);
    match chat.quirks().logprobs {
        LogprobShape::Null | LogprobShape::Refused => Value::Null,
        LogprobShape::OpenAi => {
            let top = chat.body["top_logprobs"].as_u64().unwrap_or(0);
            let token =
                |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
            let content: Vec<Value> = words(text)
                .enumerate()
                .map(|(at, word)| {
                    let logprob = of_word(at);
                    let mut entry = token(word, logprob);
                    entry["top_logprobs"] = (0..top).map(|rank| token(word, logprob - rank as f64)).collect();
                    entry
                })
                .collect();
            json!({"content": content, "refusal": null})
        }
        LogprobShape::Lists if chat.stream => json!(of_word(0)),
        LogprobShape::Lists => {
            let tokens: Vec<&str> = words(text).collect();
            let logprobs: Vec<f64> = (0..tokens.len()).map(of_word).collect();
            json!({"token_ids": (0..tokens.len()).collect::<Vec<_>>(), "tokens": tokens, "token_logprobs": logprobs})
        }
    }
}
