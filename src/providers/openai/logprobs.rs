//! The `logprobs` object of an answer: what the run reads in it, and what of it the client gets.
//!
//! Upstreams are asked once for what both want. What only the run has asked for is taken out before anybody
//! else sees the answer; where nothing is to be taken out, the object stays as the upstream wrote it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::completion::{Logprobs, Prompt, RawObject, Signals, TokenSignals};

/// Who wants which log-probabilities of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Readers {
    client: Option<Logprobs>,
    run: Option<Signals>,
}

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow)]
    content: Option<Vec<Token<'a>>>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    logprob: Option<f64>,
    bytes: Option<Vec<u8>>,
    top_logprobs: Option<Vec<Alternative>>,
}

#[derive(Deserialize)]
struct Alternative {
    logprob: Option<f64>,
}

impl Readers {
    pub fn of(prompt: &Prompt) -> Self {
        Self { client: prompt.logprobs, run: prompt.signals }
    }

    /// What the client gets of a `logprobs` object, be it of a whole answer or of a chunk.
    pub fn for_client<'a>(&self, logprobs: &'a RawValue) -> Option<Cow<'a, RawValue>> {
        match (self.client, self.run) {
            // Nobody but client and configuration has asked.
            (_, None) => Some(Cow::Borrowed(logprobs)),
            (None, Some(_)) => None,
            (Some(client), Some(run)) if client.top >= run.top => Some(Cow::Borrowed(logprobs)),
            (Some(client), Some(_)) => Some(with_fewer(logprobs, client.top.into())),
        }
    }

    /// The tokens that a whole answer's object tells of, where the run needs them; `None` too where the object
    /// is of another shape than OpenAI's.
    pub fn tokens(&self, logprobs: &RawValue) -> Option<Vec<TokenSignals>> {
        let top = usize::from(self.run?.top);
        let view: View = serde_json::from_str(logprobs.get()).ok()?;
        let read = |token: Token| {
            let alternatives = token.top_logprobs.unwrap_or_default();
            let mut alternatives: Vec<f64> = alternatives.into_iter().filter_map(|token| token.logprob).collect();
            // Not every server puts the most probable first.
            alternatives.sort_unstable_by(|left, right| right.total_cmp(left));
            alternatives.truncate(top);
            TokenSignals {
                bytes: token.bytes.unwrap_or_else(|| token.token.as_bytes().to_vec()).into(),
                logprob: token.logprob.unwrap_or(f64::NAN),
                top: alternatives.into(),
                self_certainty: None,
            }
        };
        Some(view.content?.into_iter().map(read).collect())
    }
}

/// The object in OpenAI's shape, where it has one of the others that servers have: Together's lists of tokens and of
/// their log-probabilities side by side, or the log-probability alone of what a chunk says, which is `said`.
pub(super) fn in_our_shape<'a>(logprobs: &'a RawValue, said: Option<&str>) -> Cow<'a, RawValue> {
    #[derive(Deserialize)]
    struct Lists<'l> {
        tokens: Vec<String>,
        token_logprobs: Vec<Option<f64>>,
        #[serde(borrow)]
        top_logprobs: Option<&'l RawValue>,
        content: Option<IgnoredAny>,
    }
    #[derive(Serialize)]
    struct Ours<'t> {
        content: Vec<OurToken<'t>>,
        refusal: (),
    }
    #[derive(Serialize)]
    struct OurToken<'t> {
        token: &'t str,
        logprob: Option<f64>,
        bytes: &'t [u8],
        top_logprobs: Vec<OurAlternative<'t>>,
    }
    #[derive(Serialize)]
    struct OurAlternative<'t> {
        token: &'t str,
        logprob: f64,
        bytes: &'t [u8],
    }
    let our_token =
        |token, logprob, top_logprobs| OurToken { token, logprob, bytes: str::as_bytes(token), top_logprobs };
    // The usual shape is known by how it begins.
    if logprobs.get().trim_start_matches(['{', ' ', '\n']).starts_with("\"content\"") {
        return Cow::Borrowed(logprobs);
    }
    if let (Ok(logprob), Some(said)) = (serde_json::from_str::<f64>(logprobs.get()), said) {
        let content = vec![our_token(said, Some(logprob), Vec::new())];
        return Cow::Owned(raw(&Ours { content, refusal: () }));
    }
    let Ok(Lists { tokens, token_logprobs, top_logprobs, content: None }) = serde_json::from_str(logprobs.get()) else {
        return Cow::Borrowed(logprobs);
    };
    let alternatives: Vec<Option<BTreeMap<String, f64>>> =
        top_logprobs.and_then(|lists| serde_json::from_str(lists.get()).ok()).unwrap_or_default();
    let of_token = |at: usize| {
        let known = alternatives.get(at).and_then(Option::as_ref).into_iter().flatten();
        let known = known.map(|(token, &logprob)| OurAlternative { token, logprob, bytes: token.as_bytes() });
        let mut known: Vec<_> = known.collect();
        known.sort_by(|left, right| right.logprob.total_cmp(&left.logprob));
        known
    };
    let pairs = tokens.iter().zip(token_logprobs).enumerate();
    let content = pairs.map(|(at, (token, logprob))| our_token(token, logprob, of_token(at))).collect();
    Cow::Owned(raw(&Ours { content, refusal: () }))
}

/// The mean of `content[].logprob`; `None` where there is none, or where it has another shape.
pub(super) fn mean(logprobs: &RawValue) -> Option<f64> {
    #[derive(Deserialize)]
    struct View {
        content: Option<Vec<Alternative>>,
    }
    let view: View = serde_json::from_str(logprobs.get()).ok()?;
    let known: Vec<f64> = view.content?.into_iter().filter_map(|token| token.logprob).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The object with at most `count` alternatives for each token. One of another shape than OpenAI's is left alone.
fn with_fewer(logprobs: &RawValue, count: usize) -> Cow<'_, RawValue> {
    let Ok(mut object) = RawObject::parse(logprobs) else { return Cow::Borrowed(logprobs) };
    for list in ["content", "refusal"] {
        let Some(tokens) = object.get(list) else { continue };
        let Ok(mut tokens) = serde_json::from_str::<Vec<RawObject>>(tokens.get()) else { continue };
        for token in &mut tokens {
            let kept = token.get("top_logprobs").and_then(|alternatives| fewer(alternatives, count));
            if let Some(kept) = kept {
                token.set("top_logprobs", kept);
            }
        }
        object.set(list, raw(&tokens));
    }
    Cow::Owned(object.to_raw())
}

/// The `count` most probable of a token's alternatives, in the order in which they stand.
fn fewer(alternatives: &RawValue, count: usize) -> Option<Box<RawValue>> {
    let all: Vec<&RawValue> = serde_json::from_str(alternatives.get()).ok()?;
    let logprob = |alternative: &RawValue| {
        let read: Result<Alternative, _> = serde_json::from_str(alternative.get());
        read.ok().and_then(|read| read.logprob).unwrap_or(f64::NEG_INFINITY)
    };
    let mut ranked: Vec<(usize, f64)> = all.iter().map(|alternative| logprob(alternative)).enumerate().collect();
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    ranked.truncate(count);
    ranked.sort_unstable_by_key(|(position, _)| *position);
    let kept: Vec<&RawValue> = ranked.into_iter().map(|(position, _)| all[position]).collect();
    Some(raw(&kept))
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings and raw JSON always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TOKENS: &str = r#"{"content": [{"token":"6","logprob":-0.50,"bytes":[54],"top_logprobs":[{"token":"6","logprob":-0.50,"bytes":[54]}, {"token":"5","logprob":-2},{"token":"4","logprob":-1.25}]},{"token":"!","logprob":null,"top_logprobs":[]}],"refusal":null, "more":1.0}"#;

    fn object() -> Box<RawValue> {
        RawValue::from_string(TWO_TOKENS.to_owned()).unwrap()
    }

    fn readers(client: Option<u8>, run: Option<u8>) -> Readers {
        Readers {
            client: client.map(|top| Logprobs { top }),
            run: run.map(|top| Signals { top, ..Signals::default() }),
        }
    }

    fn for_client(client: Option<u8>, run: Option<u8>) -> Option<String> {
        readers(client, run).for_client(&object()).map(|kept| kept.get().to_owned())
    }

    #[test]
    fn the_client_gets_what_it_asked_for_byte_for_byte() {
        for (client, run) in [(None, None), (Some(3), None), (Some(3), Some(3)), (Some(5), Some(0))] {
            assert_eq!(for_client(client, run).as_deref(), Some(TWO_TOKENS), "{client:?} {run:?}");
        }
    }

    #[test]
    fn what_only_the_run_asked_for_is_taken_out() {
        assert_eq!(for_client(None, Some(20)), None);
        // −1.25 is more probable than −2, wherever the server has put it.
        assert_eq!(
            for_client(Some(2), Some(20)).unwrap(),
            r#"{"content":[{"token":"6","logprob":-0.50,"bytes":[54],"top_logprobs":[{"token":"6","logprob":-0.50,"bytes":[54]},{"token":"4","logprob":-1.25}]},{"token":"!","logprob":null,"top_logprobs":[]}],"refusal":null,"more":1.0}"#
        );
        assert!(!for_client(Some(0), Some(20)).unwrap().contains("\"5\""));
    }

    #[test]
    fn an_object_of_another_shape_is_left_alone_and_tells_nothing() {
        for text in [r#"{"tokens":["a"]}"#, "[1]", r#"{"content":[7]}"#, r#"{"content":null}"#, "true", "-0.5"] {
            let other = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(in_our_shape(&other, None).get(), text);
            assert_eq!(readers(Some(1), Some(5)).for_client(&other).unwrap().get(), text);
            assert_eq!(readers(None, Some(5)).tokens(&other), None);
            assert_eq!(mean(&other), None);
        }
    }

    #[test]
    fn lists_side_by_side_are_put_together_token_by_token() {
        let lists = r#"{"tokens":["4","é"],"token_logprobs":[-0.5,-1e-3],"token_ids":[19,978],"top_logprobs":[{"4":-0.5,"5":-2,"3":-1.25},null]}"#;
        let lists = RawValue::from_string(lists.to_owned()).unwrap();
        let ours = in_our_shape(&lists, None);
        let value: serde_json::Value = serde_json::from_str(ours.get()).unwrap();
        let first = &value["content"][0];
        assert_eq!(
            (&first["token"], &first["logprob"], &first["bytes"]),
            (&"4".into(), &(-0.5).into(), &vec![52].into())
        );
        let top: Vec<_> = first["top_logprobs"].as_array().unwrap().iter().map(|it| it["token"].clone()).collect();
        assert_eq!(top, ["4", "3", "5"], "the most probable first");
        assert_eq!(value["content"][1]["bytes"], serde_json::json!([0xc3, 0xa9]));
        assert_eq!((&value["content"][1]["top_logprobs"], &value["refusal"]), (&serde_json::json!([]), &().into()));
        assert_eq!(mean(&ours), Some(-0.2505));
        let tokens = readers(None, Some(2)).tokens(&ours).unwrap();
        assert_eq!((&*tokens[0].bytes, &*tokens[0].top), (&b"4"[..], &[-0.5, -1.25][..]));

        for (text, said, mean_logprob) in [
            ("-0.75", Some("x"), Some(-0.75)),
            ("0", Some("x"), Some(0.0)),
            (r#"{"tokens":[],"token_logprobs":[]}"#, None, None),
            (r#"{"tokens":["a","b"],"token_logprobs":[null,-1]}"#, None, Some(-1.0)),
            // A token may be the name of a member.
            (r#"{"tokens":["content"],"token_logprobs":[-2],"top_logprobs":[[0.5]]}"#, None, Some(-2.0)),
            // What has no pair is not told.
            (r#"{"tokens":["a","b"],"token_logprobs":[-3]}"#, None, Some(-3.0)),
        ] {
            let other = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(mean(&in_our_shape(&other, said)), mean_logprob, "{text}");
        }
    }

    #[test]
    fn the_run_reads_every_token_with_its_best_alternatives() {
        let tokens = readers(None, Some(2)).tokens(&object()).unwrap();
        assert_eq!((&*tokens[0].bytes, tokens[0].logprob, &*tokens[0].top), (&b"6"[..], -0.5, &[-0.5, -1.25][..]));
        assert_eq!((&*tokens[1].bytes, &*tokens[1].top), (&b"!"[..], &[][..]));
        assert!(tokens[1].logprob.is_nan());
        assert_eq!(readers(Some(2), None).tokens(&object()), None);
        assert_eq!(mean(&object()), Some(-0.5));
    }
}
