use std::collections::BTreeMap;

use super::*;
use crate::completion::{FinishReason, Sampling, ToolCall};
use crate::failure::Failure;

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn prompt(messages: &str) -> Prompt {
    Prompt {
        model: "m".into(),
        messages: json(messages),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: BTreeMap::new(),
    }
}

fn round(message: &str, tokens: u64) -> Candidate {
    Candidate::Completed(Completion {
        reply: Reply::parse(json(message)).unwrap(),
        finish_reason: FinishReason::Stop,
        logprobs: Some(json(&format!(r#"{{"content":[{tokens}]}}"#))),
        mean_logprob: None,
        tokens: None,
        usage: Usage { prompt_tokens: 10, completion_tokens: tokens, ..Usage::default() },
    })
}

fn composed(rounds: &[Candidate]) -> Completion {
    match answer(rounds).unwrap() {
        Answer::Composed(completion) => *completion,
        Answer::Chosen(chosen) => panic!("{chosen:?} was chosen"),
    }
}

#[test]
fn the_text_of_a_reply_is_added_without_touching_a_byte_of_the_turns_before() {
    let messages = "[ {\"role\":\"user\",\"content\":\"a\\u0020b\" , \"x\":1.0} ]\n";
    let reply = Reply::parse(json(r#"{"role":"assistant", "content":"é","reasoning_content":"hm","n":1e5}"#)).unwrap();
    let next = with_check(&prompt(messages), &reply);
    assert_eq!(
        next.messages.get(),
        "[ {\"role\":\"user\",\"content\":\"a\\u0020b\" , \"x\":1.0},{\"role\":\"assistant\",\"content\":\"é\"},{\"role\":\"user\",\"content\":\"wait, check your reasoning\"}]"
    );
    let nameless = Reply::parse(json(r#"{"content":"é"}"#)).unwrap();
    let next = with_check(&prompt("[]"), &nameless);
    assert!(next.messages.get().starts_with(r#"[{"role":"assistant","content":"é"},{"#), "{}", next.messages.get());
}

#[test]
fn the_envelope_is_the_contracts_to_the_byte() {
    let rounds = [
        round(r#"{"role":"assistant","content":"one"}"#, 1),
        round(r#"{"role":"assistant","content":"two\nlines"}"#, 2),
        round(r#"{"role":"assistant","content":"three","reasoning_content":"so","refusal":null}"#, 4),
    ];
    let whole = composed(&rounds);
    assert_eq!(whole.reply.content(), Some("<test-time-compute>\none\ntwo\nlines\n</test-time-compute>\n\nthree"));
    assert!(whole.reply.raw().get().ends_with(r#","reasoning_content":"so","refusal":null}"#));
    assert_eq!((whole.usage.prompt_tokens, whole.usage.completion_tokens), (30, 7));
    assert_eq!(whole.logprobs.unwrap().get(), r#"{"content":[4]}"#, "those of the last reply alone");
    assert_eq!(
        composed(&rounds[..2]).reply.content(),
        Some("<test-time-compute>\none\n</test-time-compute>\n\ntwo\nlines")
    );
    assert!(matches!(answer(&rounds[..1]), Some(Answer::Chosen(chosen)) if chosen == [0]));
    assert!(answer(&[]).is_none());
}

#[test]
fn a_failed_round_leaves_those_before_it() {
    let failed = || Candidate::Failed(Failure::new(FailureKind::Unavailable, "gone"));
    let one = || round(r#"{"role":"assistant","content":"one"}"#, 1);
    assert!(matches!(answer(&[one(), failed()]), Some(Answer::Chosen(chosen)) if chosen == [0]));
    let rounds = [one(), round(r#"{"role":"assistant","content":"two"}"#, 1), failed()];
    assert_eq!(composed(&rounds).reply.content(), Some("<test-time-compute>\none\n</test-time-compute>\n\ntwo"));
    assert!(answer(&[failed()]).is_none());
}

#[test]
fn a_round_that_calls_tools_is_the_answer_as_it_is() {
    let call = ToolCall::function("c", "f", "{}");
    let calling = Reply::new(Some("let me see".into()), vec![call]);
    let rounds = [round(r#"{"role":"assistant","content":"one"}"#, 1), round(calling.raw().get(), 1)];
    assert!(matches!(answer(&rounds), Some(Answer::Chosen(chosen)) if chosen == [1]));
}

#[test]
fn a_round_that_calls_a_custom_tool_or_a_function_of_old_is_the_answer_as_it_is() {
    for calling in [
        r#"{"content":null,"tool_calls":[{"type":"custom","custom":{"name":"sql","input":"select"}}]}"#,
        r#"{"content":null,"function_call":{"name":"f","arguments":"{}"}}"#,
    ] {
        let rounds = [round(r#"{"role":"assistant","content":"one"}"#, 1), round(calling, 1)];
        assert!(matches!(answer(&rounds), Some(Answer::Chosen(chosen)) if chosen == [1]), "{calling}");
    }
}

#[test]
fn a_round_without_text_is_an_empty_line() {
    let rounds =
        [round(r#"{"role":"assistant","content":null}"#, 1), round(r#"{"role":"assistant","content":"two"}"#, 1)];
    assert_eq!(composed(&rounds).reply.content(), Some("<test-time-compute>\n\n</test-time-compute>\n\ntwo"));
}

/// Keeps what it hears.
#[derive(Default)]
struct Heard(Vec<String>);

impl Observer for Heard {
    async fn delta(&mut self, delta: Delta) {
        self.0.push(delta.fields.get().to_owned());
    }

    fn progress(&mut self, _: usize, _: usize) {}
}

#[tokio::test]
async fn the_envelope_goes_before_the_first_word_and_after_reasoning() {
    let mut heard = Heard::default();
    let mut listener = AfterEnvelope { observer: &mut heard, envelope: "E\n".to_owned(), has_begun: false };
    let deltas = [
        r#"{"role":"assistant","content":""}"#,
        r#"{"reasoning_content":"hm"}"#,
        r#"{"content":"a"}"#,
        r#"{"content":"b"}"#,
    ];
    listener.delta(Delta { fields: json(deltas[0]), logprobs: None }).await;
    assert!(!listener.has_begun, "nothing was said yet");
    for delta in &deltas[1..] {
        listener.delta(Delta { fields: json(delta), logprobs: None }).await;
    }
    assert_eq!(heard.0, [deltas[1], r#"{"content":"E\n"}"#, deltas[2], deltas[3]]);
}
