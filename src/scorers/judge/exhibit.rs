//! One candidate as the judge is shown it: as it is up to a length, and beyond that so that it can be told what is missing.
//!
//! Whatever stands for what was left out is structure and no text, so that no candidate can write it.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::line::width;
use crate::completion::{Completion, FinishReason};

/// Of all texts of one candidate together, the judge is shown this many characters as they stand in JSON.
const MAX_SHOWN_CHARS: usize = 32_000;

/// Of the calls of one candidate, the judge is shown the first so many.
const MAX_SHOWN_CALLS: usize = 64;

/// What the judge is not shown, over all candidates.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    shortened_texts: usize,
    calls: usize,
}

impl LeftOut {
    /// In sentences without a full stop.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.shortened_texts > 0 {
            let count = self.shortened_texts;
            notes.push(format!("the judge was shown only the beginning and the end of long texts ({count})"));
        }
        if self.calls > 0 {
            notes.push(format!("the judge was not shown every call of candidates with many calls ({})", self.calls));
        }
        notes
    }
}

/// A candidate as an object.
pub(super) fn exhibit(completion: &Completion, left_out: &mut LeftOut) -> Value {
    let reply = &completion.reply;
    let refusal = refusal(reply.raw());
    // A refusal often comes with a text that is empty.
    let content = reply.content().filter(|content| !content.is_empty() || refusal.is_none());
    let calls = &reply.tool_calls()[..reply.tool_calls().len().min(MAX_SHOWN_CALLS)];
    let of_calls = calls.iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]);
    let widths = content.into_iter().chain(refusal.as_deref()).chain(of_calls).map(width_of).collect();
    let most = fair_share(widths, MAX_SHOWN_CHARS);
    let mut show = |text: &str| shown(text, most, left_out);

    let mut object = Map::new();
    if let Some(content) = content {
        object.insert("content".to_owned(), show(content));
    }
    if let Some(refusal) = &refusal {
        object.insert("refusal".to_owned(), show(refusal));
    }
    if !calls.is_empty() {
        let calls = calls.iter().map(|call| json!({"name": show(&call.name), "arguments": show(&call.arguments)}));
        object.insert("tool_calls".to_owned(), calls.collect());
    }
    let calls_left_out = reply.tool_calls().len() - calls.len();
    if calls_left_out > 0 {
        left_out.calls += calls_left_out;
        object.insert("left_out_tool_calls".to_owned(), calls_left_out.into());
    }
    if matches!(completion.finish_reason, FinishReason::Length | FinishReason::ContentFilter) {
        object.insert("cut_off".to_owned(), Value::Bool(true));
    }
    Value::Object(object)
}

fn refusal(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct View {
        refusal: Option<String>,
    }
    serde_json::from_str::<View>(raw.get()).ok()?.refusal.filter(|refusal| !refusal.is_empty())
}

fn width_of(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// The most that each of several texts may take of a budget: what short ones leave goes to the long ones.
fn fair_share(mut widths: Vec<usize>, budget: usize) -> usize {
    widths.sort_unstable();
    let mut left = budget;
    for (position, width) in widths.iter().enumerate() {
        let share = left / (widths.len() - position);
        if *width > share {
            return share;
        }
        left -= width;
    }
    usize::MAX
}

/// A text, or three quarters of what may be shown from its beginning and the rest from its end.
fn shown(text: &str, most: usize, left_out: &mut LeftOut) -> Value {
    if width_of(text) <= most {
        return text.into();
    }
    left_out.shortened_texts += 1;
    let at_end = most / 4;
    let within = |most: usize| {
        let mut taken = 0;
        move |char: &char| {
            taken += width(*char);
            taken <= most
        }
    };
    let beginning: String = text.chars().take_while(within(most - at_end)).collect();
    let end_bytes: usize = text.chars().rev().take_while(within(at_end)).map(char::len_utf8).sum();
    let (middle, end) = text[beginning.len()..].split_at(text.len() - beginning.len() - end_bytes);
    json!({"beginning": beginning, "left_out_characters": middle.chars().count(), "end": end})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{Reply, ToolCall, Usage};

    fn exhibited(reply: Reply) -> (Value, LeftOut) {
        let completion = Completion {
            reply,
            finish_reason: FinishReason::Stop,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage::default(),
        };
        let mut left_out = LeftOut::default();
        (exhibit(&completion, &mut left_out), left_out)
    }

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall::function("x", name, arguments)
    }

    #[test]
    fn a_budget_is_shared_so_that_short_texts_stay_whole() {
        assert_eq!(fair_share(vec![], 100), usize::MAX);
        assert_eq!(fair_share(vec![40, 60], 100), usize::MAX);
        assert_eq!(fair_share(vec![200, 10], 100), 90);
        assert_eq!(fair_share(vec![200, 300, 0], 100), 50);
        assert_eq!(fair_share(vec![usize::MAX, 1], 0), 0);
    }

    #[test]
    fn text_names_arguments_and_number_of_calls_share_one_budget() {
        let long = "x".repeat(50_000);
        let calls = vec![call(&long, &long); 200];
        let (shown, left_out) = exhibited(Reply::new(Some(long.clone()), calls));
        assert_eq!((&shown["left_out_tool_calls"], shown["tool_calls"].as_array().unwrap().len()), (&json!(136), 64));
        // 129 texts of 248 characters: three quarters from the beginning.
        for text in [&shown["content"], &shown["tool_calls"][0]["name"], &shown["tool_calls"][63]["arguments"]] {
            assert_eq!(*text, json!({"beginning": &long[..186], "left_out_characters": 49_752, "end": &long[..62]}));
        }
        assert!(shown.to_string().len() < MAX_SHOWN_CHARS + 129 * 80, "{}", shown.to_string().len());
        assert_eq!((left_out.shortened_texts, left_out.notes().len()), (129, 2));

        let (shown, left_out) = exhibited(Reply::new(Some(long.clone()), vec![call("f", "{}")]));
        assert_eq!(shown["tool_calls"], json!([{"name": "f", "arguments": "{}"}]));
        assert_eq!(shown["content"]["left_out_characters"], 50_000 - 31_997);
        assert_eq!(left_out.notes().len(), 1);
    }

    #[test]
    fn what_takes_many_characters_to_show_is_shortened_sooner() {
        let (shown, _) = exhibited(Reply::new(Some("\u{e0041}".repeat(4_000)), Vec::new()));
        // 2,000 before and 666 after, of twelve characters each.
        assert_eq!(shown["content"]["left_out_characters"], 4_000 - 2_666);
        let (shown, left_out) = exhibited(Reply::new(Some("é".repeat(32_000)), Vec::new()));
        assert!(shown["content"].is_string() && left_out.notes().is_empty());
    }

    #[test]
    fn a_refusal_is_shown_whatever_stands_beside_it() {
        let shown = |raw: &str| exhibited(Reply::parse(RawValue::from_string(raw.to_owned()).unwrap()).unwrap()).0;
        assert_eq!(shown(r#"{"content": "", "refusal": "No."}"#), json!({"refusal": "No."}));
        assert_eq!(shown(r#"{"content": null, "refusal": "No."}"#), json!({"refusal": "No."}));
        assert_eq!(shown(r#"{"content": "Sorry.", "refusal": "No."}"#), json!({"content": "Sorry.", "refusal": "No."}));
        assert_eq!(shown(r#"{"content": "", "refusal": ""}"#), json!({"content": ""}));
        assert_eq!(shown(r#"{"content": "42", "refusal": null}"#), json!({"content": "42"}));
    }
}
