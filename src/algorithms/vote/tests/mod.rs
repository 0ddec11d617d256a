//! The vote as its callers meet it, and the promise of an early stop checked on every ending of small runs.

use std::sync::Arc;

use serde_json::json;
use serde_json::value::RawValue;

use super::{Ballot, Validity, Verdict, VoteRules, Weighting};
use crate::completion::{CallKind, Completion, FinishReason, Prompt, Reply, Sampling, Tool, ToolCall, Usage};
use crate::config::run::{RunSettings, ToolVote, VoteOn};

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn prompt(tools: Vec<Tool>, response_format: Option<&str>) -> Prompt {
    Prompt {
        model: "m".into(),
        messages: raw("[]"),
        tools,
        tool_choice: None,
        response_format: response_format.map(raw),
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: Default::default(),
    }
}

/// A tool `f` that needs an integer `x` and takes anything besides, and a tool `g` without parameters.
fn tools() -> Vec<Tool> {
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    let tool = |name: &str, parameters| Tool { definition: raw("{}"), name: Some(name.into()), parameters };
    vec![tool("f", Some(schema)), tool("g", None)]
}

fn completion(content: Option<&str>, calls: &[(&str, &str)]) -> Completion {
    let call = |&(name, arguments): &(&str, &str)| ToolCall::function("c", name, arguments);
    let finish_reason = if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
    Completion {
        reply: Reply::new(content.map(str::to_owned), calls.iter().map(call).collect()),
        finish_reason,
        logprobs: None,
        mean_logprob: None,
        tokens: None,
        usage: Usage::default(),
    }
}

fn text(content: &str) -> Completion {
    completion(Some(content), &[])
}

fn call(name: &str, arguments: &str) -> Completion {
    completion(None, &[(name, arguments)])
}

fn cut_off(mut completion: Completion) -> Completion {
    completion.finish_reason = FinishReason::Length;
    completion
}

fn likely(mut completion: Completion, mean_logprob: f64) -> Completion {
    completion.mean_logprob = Some(mean_logprob);
    completion
}

fn ballot(settings: RunSettings, prompt: &Prompt, planned: usize) -> Ballot {
    Ballot::new(Arc::new(VoteRules::compile(&settings).unwrap()), Arc::new(Validity::of(prompt)), planned)
}

fn verdict(settings: RunSettings, prompt: &Prompt, completions: &[Completion]) -> Verdict {
    let mut ballot = ballot(settings, prompt, completions.len());
    for (index, completion) in completions.iter().enumerate() {
        ballot.record(index, Some(completion));
    }
    ballot.verdict().unwrap()
}

fn on_text(vote_on: VoteOn) -> RunSettings {
    RunSettings { vote_on, ..RunSettings::default() }
}

fn counts(verdict: &Verdict) -> Vec<(&str, usize)> {
    verdict.response_counts.iter().map(|(label, count)| (label.as_str(), *count)).collect()
}

#[test]
fn spellings_of_one_answer_vote_together() {
    let candidates =
        [text("So it is 7."), text("\\boxed{1/2}"), text("The answer is 0.50."), text("$\\dfrac{1}{2}$"), text("7")];
    let verdict = verdict(RunSettings::default(), &prompt(vec![], None), &candidates);
    // The last candidate but one has no marker; its fraction is its last number.
    assert_eq!(counts(&verdict), [("0.5", 3), ("7", 2)]);
    assert_eq!((verdict.selected, verdict.vote), (1, "answer"));
    assert_eq!(verdict.agreement, 0.6);
    assert!(verdict.set_aside.is_empty() && verdict.notes.is_empty());
}

#[test]
fn nothing_completed_gives_no_verdict() {
    let mut ballot = ballot(RunSettings::default(), &prompt(vec![], None), 2);
    assert_eq!(ballot.verdict(), None);
    ballot.record(0, None);
    ballot.record(1, None);
    assert_eq!(ballot.verdict(), None);
    assert!(!ballot.is_decided());
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let candidates = [text("A 1"), text("B 2"), text("C 2"), text("D 1")];
    let mut forwards = ballot(RunSettings::default(), &prompt(vec![], None), 4);
    let mut backwards = ballot(RunSettings::default(), &prompt(vec![], None), 4);
    for index in 0..4 {
        forwards.record(index, Some(&candidates[index]));
        backwards.record(3 - index, Some(&candidates[3 - index]));
    }
    assert_eq!(forwards.verdict(), backwards.verdict());
    assert_eq!(forwards.verdict().unwrap().selected, 0);
}

#[test]
fn an_index_that_ends_twice_counts_once() {
    let mut ballot = ballot(RunSettings::default(), &prompt(vec![], None), 3);
    ballot.record(0, Some(&text("1")));
    ballot.record(0, Some(&text("1")));
    ballot.record(1, Some(&text("2")));
    assert_eq!(counts(&ballot.verdict().unwrap()), [("1", 1), ("2", 1)]);
}

#[test]
fn tool_calls_decide_when_at_least_half_of_the_candidates_make_them() {
    let prompt = prompt(tools(), None);
    let half = [text("5"), text("5"), call("f", r#"{"x":1}"#), call("f", r#"{"x":1.0}"#)];
    let by_tools = verdict(RunSettings::default(), &prompt, &half);
    assert_eq!((by_tools.selected, by_tools.vote), (2, "tool_hierarchical"));
    assert_eq!(counts(&by_tools), [(r#"{"arguments":{"x":1},"name":"f"}"#, 2)]);
    assert_eq!(by_tools.agreement, 1.0);
    assert_eq!(by_tools.set_aside.len(), 2);
    assert!(by_tools.set_aside[0].reason.contains("answered in text"));

    let by_text = verdict(RunSettings::default(), &prompt, &[text("5"), text("5"), call("f", r#"{"x":1}"#)]);
    assert_eq!((by_text.selected, by_text.vote), (0, "answer"));
    assert!(by_text.set_aside[0].reason.contains("calls tools"));
}

#[test]
fn invalid_calls_vote_only_when_no_call_is_valid() {
    let prompt = prompt(tools(), None);
    let candidates = [
        call("absent", "{}"),
        call("absent", "{}"),
        call("f", r#"{"x":"one"}"#),
        call("f", "{\"x\":"),
        call("f", "[1]"),
        call("f", ""),
        completion(None, &[]),
        call("f", r#"{"x":1}"#),
    ];
    let chosen = verdict(RunSettings::default(), &prompt, &candidates);
    assert_eq!(chosen.selected, 7);
    let reasons: Vec<&str> = chosen.set_aside.iter().map(|aside| aside.reason.as_ref()).collect();
    let expected = [
        "not an offered tool",
        "not an offered tool",
        "break its schema",
        "not JSON",
        "no JSON object",
        "break its schema",
        "neither content nor tool calls",
    ];
    assert_eq!(reasons.len(), expected.len());
    for (reason, words) in reasons.iter().zip(expected) {
        assert!(reason.starts_with("invalid: ") && reason.contains(words), "{reason}");
    }

    let none_valid = verdict(RunSettings::default(), &prompt, &candidates[..2]);
    assert_eq!(counts(&none_valid), [(r#"{"arguments":{},"name":"absent"}"#, 2)]);
    assert!(none_valid.notes[0].contains("no candidate is valid"));
}

#[test]
fn empty_arguments_of_a_tool_without_parameters_are_an_empty_object() {
    let chosen =
        verdict(RunSettings::default(), &prompt(tools(), None), &[call("g", ""), call("g", "{}"), call("g", " ")]);
    assert_eq!(counts(&chosen), [(r#"{"arguments":{},"name":"g"}"#, 3)]);
}

#[test]
fn a_broken_schema_checks_only_for_an_object_and_warns_when_used() {
    let broken = Tool { definition: raw("{}"), name: Some("f".into()), parameters: Some(json!({"type": 7})) };
    let remote = Tool {
        definition: raw("{}"),
        name: Some("g".into()),
        parameters: Some(json!({"$ref": "https://example.com/s"})),
    };
    let validity = Arc::new(Validity::of(&prompt(vec![broken, remote], None)));
    assert!(validity.warnings().is_empty());
    let mut ballot = Ballot::new(Arc::new(VoteRules::compile(&RunSettings::default()).unwrap()), validity.clone(), 3);
    ballot.record(0, Some(&call("f", "[]")));
    ballot.record(1, Some(&call("f", r#"{"any":1}"#)));
    ballot.record(2, Some(&call("g", r#"{"any":1}"#)));
    let chosen = ballot.verdict().unwrap();
    assert_eq!(chosen.selected, 1);
    assert_eq!(chosen.set_aside.len(), 1);
    assert_eq!(validity.warnings().len(), 2);
    assert!(validity.warnings()[0].contains("tool `f`"));
}

#[test]
fn a_schema_that_refers_to_itself_without_end_is_survived() {
    let endless = Tool { definition: raw("{}"), name: Some("f".into()), parameters: Some(json!({"$ref": "#"})) };
    let chosen = verdict(RunSettings::default(), &prompt(vec![endless], None), &[call("f", r#"{"x":{"x":{}}}"#)]);
    assert_eq!(chosen.selected, 0);
}

#[test]
fn integers_beyond_every_float_stay_apart_and_fit_a_schema() {
    let candidates = [
        call("f", r#"{"x":9007199254740993}"#),
        call("f", r#"{"x":9007199254740992}"#),
        call("f", r#"{"x":9007199254740992.0}"#),
        call("f", r#"{"x":1e400}"#),
    ];
    let chosen = verdict(RunSettings::default(), &prompt(tools(), None), &candidates);
    assert_eq!((chosen.selected, chosen.response_counts.len()), (1, 3));
    assert!(chosen.set_aside.is_empty());
}

#[test]
fn truncated_candidates_vote_only_when_nobody_finished() {
    let candidates = [cut_off(text("9")), cut_off(text("9")), text("5")];
    let chosen = verdict(RunSettings::default(), &prompt(vec![], None), &candidates);
    assert_eq!(chosen.selected, 2);
    assert_eq!(chosen.set_aside[0].reason, "cut off by the length limit");
    let unfinished = verdict(RunSettings::default(), &prompt(vec![], None), &candidates[..2]);
    assert_eq!(unfinished.selected, 0);
    assert!(unfinished.notes[0].contains("no valid candidate finished"));
    // A whole but invalid message helps nobody, so a valid one that is cut off comes before it.
    let invalid_or_cut =
        verdict(RunSettings::default(), &prompt(tools(), None), &[call("absent", "{}"), cut_off(text("9"))]);
    assert_eq!(invalid_or_cut.selected, 1);
}

#[test]
fn a_refusal_is_set_aside_and_an_unknown_kind_of_message_abstains() {
    let message = |json: &str| Completion { reply: Reply::parse(raw(json)).unwrap(), ..text("") };
    let refusal = message(r#"{"role":"assistant","content":null,"refusal":"No."}"#);
    let unknown = message(r#"{"role":"assistant","content":null,"tool_calls":[{"type":"search","search":{}}]}"#);
    let chosen = verdict(on_text(VoteOn::Answer), &prompt(vec![], None), &[refusal, unknown, text("5")]);
    assert_eq!(chosen.selected, 2);
    assert_eq!(chosen.set_aside[0].reason, "invalid: the model refused");
    assert!(chosen.set_aside[1].reason.starts_with("abstained"));
}

/// A call of a custom tool.
fn custom_call(name: &str, input: &str) -> Completion {
    let call = ToolCall { kind: CallKind::Custom, ..ToolCall::function("c", name, input) };
    Completion { reply: Reply::new(None, vec![call]), finish_reason: FinishReason::ToolCalls, ..text("") }
}

/// The custom tool `sql`.
fn custom_tool() -> Tool {
    let definition = raw(r#"{"type":"custom","custom":{"name":"sql","description":"runs it"}}"#);
    Tool { definition, name: None, parameters: None }
}

#[test]
fn calls_of_custom_tools_vote_by_their_input_as_text() {
    let offered = prompt(vec![custom_tool()], None);
    let candidates = [
        custom_call("sql", r#"{"a":1,"b":2}"#),
        custom_call("sql", r#"{"b":2,"a":1}"#),
        custom_call("sql", "select"),
        custom_call("sql", " select\n"),
        custom_call("absent", "select"),
        call("sql", "{}"),
    ];
    let chosen = verdict(RunSettings::default(), &offered, &candidates);
    assert_eq!((chosen.selected, chosen.vote), (2, "tool_hierarchical"));
    assert_eq!(chosen.response_counts[0], (r#"{"input":"select","name":"sql"}"#.to_owned(), 2));
    assert_eq!(chosen.response_counts.len(), 3, "what is JSON by chance is compared as text");
    assert_eq!(chosen.set_aside.len(), 2);
    assert!(chosen.set_aside.iter().all(|aside| aside.reason.contains("not an offered tool")));
    for tool_vote in [ToolVote::ToolArgs, ToolVote::ToolSet] {
        let settings = RunSettings { tool_vote, ..RunSettings::default() };
        assert_eq!(verdict(settings, &offered, &candidates).response_counts.len(), 3);
    }
}

#[test]
fn the_function_call_of_old_votes_as_a_call_of_an_offered_function() {
    let message = |json: &str| Completion { reply: Reply::parse(raw(json)).unwrap(), ..text("") };
    let functions = r#"[{"name":"f","parameters":{"type":"object","required":["x"]}},{"description":"nameless"}]"#;
    let mut offered = prompt(vec![], None);
    offered.passthrough.insert("functions".to_owned(), raw(functions));
    let old = |arguments: &str| {
        let arguments = serde_json::to_string(arguments).unwrap();
        message(&format!(r#"{{"content":null,"function_call":{{"name":"f","arguments":{arguments}}}}}"#))
    };
    let candidates = [old("{}"), old(r#"{"x":1}"#), old(r#"{"x":2}"#), old(r#"{ "x": 2.0 }"#)];
    let chosen = verdict(RunSettings::default(), &offered, &candidates);
    assert_eq!((chosen.selected, chosen.set_aside.len()), (2, 1));
    assert!(chosen.set_aside[0].reason.contains("break its schema"), "{:?}", chosen.set_aside);
    // One more call might tie the vote, so that texts alone decide nothing where calls are possible.
    let mut ballot = ballot(on_text(VoteOn::Number), &offered, 4);
    (0..2).for_each(|index| ballot.record(index, Some(&text("7"))));
    assert!(!ballot.is_decided());
}

#[test]
fn text_that_breaks_the_response_format_is_invalid() {
    let object = prompt(vec![], Some(r#"{"type":"json_object"}"#));
    let candidates =
        [text("not json"), text("not json"), text("[1]"), text(r#"{"b":1,"a":2}"#), text(r#"{"a":2.0,"b":1}"#)];
    let chosen = verdict(RunSettings::default(), &object, &candidates);
    assert_eq!((chosen.selected, chosen.vote), (3, "json"));
    assert_eq!(counts(&chosen), [(r#"{"a":2,"b":1}"#, 2)]);
    assert_eq!(chosen.set_aside.len(), 3);

    let schema =
        prompt(vec![], Some(r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"required":["a"]}}}"#));
    let chosen = verdict(RunSettings::default(), &schema, &[text("{}"), text("{}"), text(r#"{"a":1}"#)]);
    assert_eq!(chosen.selected, 2);
    assert!(chosen.set_aside[0].reason.contains("breaks the schema of response_format"));
}

#[test]
fn a_format_that_asks_for_text_asks_for_no_json() {
    let plain = prompt(vec![], Some(r#"{"type":"text"}"#));
    assert_eq!(verdict(RunSettings::default(), &plain, &[text("5"), text("5")]).vote, "answer");
}

#[test]
fn names_are_voted_before_arguments() {
    // "g {}" is the most common pair, but "f" is the most common name.
    let candidates = [
        call("g", "{}"),
        call("g", "{}"),
        call("f", r#"{"x":1,"y":1}"#),
        call("f", r#"{"x":2,"y":2}"#),
        call("f", r#"{"x":1,"y":2}"#),
    ];
    let chosen = verdict(RunSettings::default(), &prompt(tools(), None), &candidates);
    // All arguments of f differ; x = 1 and y = 2 are the majorities, and candidate 4 holds both.
    assert_eq!((chosen.selected, chosen.vote, chosen.agreement), (4, "tool_fields", 0.2));
    assert_eq!(chosen.response_counts[0].1, 1);
    assert_eq!(chosen.response_counts[1], (r#"{"arguments":{},"name":"g"}"#.to_owned(), 2));
}

#[test]
fn each_tool_vote_reads_its_own_part() {
    let candidates =
        [call("g", r#"{"x":1}"#), call("f", r#"{"x":2}"#), call("f", r#"{"x":3}"#), call("f", r#"{"x":1}"#)];
    let on_tools = |tool_vote| RunSettings { tool_vote, ..RunSettings::default() };
    let by_name = verdict(on_tools(ToolVote::ToolName), &prompt(tools(), None), &candidates);
    assert_eq!((by_name.selected, by_name.response_counts[0].clone()), (1, (r#""f""#.to_owned(), 3)));
    let by_args = verdict(on_tools(ToolVote::ToolArgs), &prompt(tools(), None), &candidates);
    assert_eq!((by_args.selected, by_args.response_counts[0].clone()), (0, (r#"{"x":1}"#.to_owned(), 2)));
    let excluding = RunSettings { exclude_args: vec!["x".into()], ..RunSettings::default() };
    let without_x = verdict(excluding, &prompt(tools(), None), &candidates);
    assert_eq!(without_x.response_counts[0], (r#"{"arguments":{},"name":"f"}"#.to_owned(), 3));
}

#[test]
fn json_without_a_majority_is_decided_by_fields() {
    let candidates =
        [text(r#"{"a":1,"b":1}"#), text(r#"{"a":3,"b":2}"#), text(r#"{"a":4,"b":2}"#), text(r#"{"a":1,"b":2}"#)];
    let chosen = verdict(on_text(VoteOn::Json), &prompt(vec![], None), &candidates);
    assert_eq!((chosen.selected, chosen.vote, chosen.agreement), (3, "json_fields", 0.25));
}

#[test]
fn auto_takes_the_answer_when_half_have_one_and_the_most_typical_text_otherwise() {
    let poems = ["roses are red", "violets are blue", "roses are blue"];
    let half = [text(poems[0]), text("5"), text(poems[1]), text("6")];
    let by_answer = verdict(RunSettings::default(), &prompt(vec![], None), &half);
    assert_eq!((by_answer.selected, by_answer.vote, by_answer.agreement), (1, "answer", 0.5));
    assert_eq!(by_answer.set_aside.len(), 2);
    let fewer = [text("5"), text(poems[0]), text(poems[1]), text(poems[2])];
    let typical = verdict(RunSettings::default(), &prompt(vec![], None), &fewer);
    assert_eq!((typical.selected, typical.vote), (3, "similarity"));
    assert_eq!((typical.agreement, typical.response_counts.len()), (0.25, 4));
    let patterns = RunSettings { regex_patterns: vec!["are (\\w+)".into()], ..RunSettings::default() };
    assert_eq!(verdict(patterns, &prompt(vec![], None), &fewer).vote, "regex");
}

#[test]
fn when_all_abstain_the_most_typical_text_is_returned_and_the_verdict_says_so() {
    let patterns = RunSettings { regex_patterns: vec!["<absent>".into()], ..RunSettings::default() };
    let candidates = [text("an odd one"), text("the same words"), text("the same words")];
    let chosen = verdict(patterns, &prompt(vec![], None), &candidates);
    assert_eq!((chosen.selected, chosen.vote), (1, "similarity"));
    assert_eq!(
        chosen.notes,
        ["every candidate abstained from the vote on regex, so the most typical text is returned"]
    );
}

#[test]
fn a_hostile_log_probability_counts_as_unknown() {
    let candidates =
        [likely(text("1"), f64::NAN), likely(text("2"), -0.1), likely(text("2"), f64::NEG_INFINITY), text("1")];
    assert_eq!(verdict(RunSettings::default(), &prompt(vec![], None), &candidates).selected, 0);
}

mod decided;
mod tally;
mod weights;
