use serde_json::Value as Json;

use super::*;
use crate::completion::Logprobs;

/// What one candidate was heard to say.
#[derive(Default)]
struct Heard {
    deltas: Vec<Json>,
    logprobs: Vec<Json>,
    completion: Option<Completion>,
}

impl Heard {
    fn text(&self) -> String {
        self.deltas.iter().filter_map(|delta| delta["content"].as_str()).collect()
    }
}

fn listen(mut receiver: Receiver<(usize, StepEvent)>) -> BTreeMap<usize, Heard> {
    let mut all: BTreeMap<usize, Heard> = BTreeMap::new();
    while let Some((candidate, event)) = receiver.blocking_recv() {
        let heard = all.entry(candidate).or_default();
        assert!(heard.completion.is_none(), "nothing comes after the end");
        match event {
            StepEvent::Delta(delta) => {
                heard.deltas.push(serde_json::from_str(delta.fields.get()).unwrap());
                if let Some(logprobs) = delta.logprobs {
                    let object: Json = serde_json::from_str(logprobs.get()).unwrap();
                    heard.logprobs.extend(object["content"].as_array().unwrap().iter().cloned());
                }
            }
            StepEvent::Finished(completion) => heard.completion = Some(completion),
            StepEvent::Failed(failure) => panic!("{failure}"),
        }
    }
    all
}

fn live(prompt: &Prompt, candidates: u64) -> Receiver<(usize, StepEvent)> {
    ENGINE.generate(Job { live: true, ..job(prompt, 0..candidates) }).unwrap()
}

#[test]
fn what_is_streamed_is_what_is_answered() {
    let mut question = sum("23 + 48 - 17");
    question.sampling.stop = vec!["answer is".into()];
    question.logprobs = Some(Logprobs { top: 1 });
    for heard in listen(live(&question, 3)).into_values() {
        assert_eq!(heard.deltas[0], serde_json::json!({ "role": "assistant", "content": "" }));
        let completion = heard.completion.as_ref().unwrap();
        assert_eq!(heard.text(), text(completion));
        assert!(heard.deltas.len() > 2, "the text comes in pieces");
        let object: Json = serde_json::from_str(completion.logprobs.as_ref().unwrap().get()).unwrap();
        assert_eq!(object["content"], Json::Array(heard.logprobs));
    }
}

#[test]
fn a_reader_that_sleeps_holds_up_nobody_and_loses_nothing() {
    let asleep = live(&sum("23 + 48 - 17 + 31"), 8);
    assert_eq!(completions(&ENGINE, job(&sum("1 + 2"), 0..4)).len(), 4);
    for heard in listen(asleep).into_values() {
        assert_eq!(heard.text(), text(heard.completion.as_ref().unwrap()));
    }
}

#[test]
fn a_streamed_tool_call_comes_by_its_name_and_then_in_pieces_and_not_as_text() {
    let mut question = sum("23 + 48 - 17");
    question.tools = vec![tool("calculator")];
    question.sampling.temperature = Some(0.0);
    question.logprobs = Some(Logprobs { top: 0 });
    let heard = listen(live(&question, 1)).remove(&0).unwrap();
    let completion = heard.completion.as_ref().unwrap();
    let call = &completion.reply.tool_calls()[0];
    assert_eq!(heard.text(), "");
    let begun = serde_json::json!({ "tool_calls": [{
        "index": 0,
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": "" },
    }] });
    assert_eq!(heard.deltas[1], begun);
    let pieces: Vec<&str> = heard.deltas[2..]
        .iter()
        .filter_map(|delta| delta.pointer("/tool_calls/0/function/arguments")?.as_str())
        .collect();
    assert!(pieces.len() > 2, "the arguments come in pieces: {pieces:?}");
    assert_eq!(pieces.concat(), call.arguments);
    let object: Json = serde_json::from_str(completion.logprobs.as_ref().unwrap().get()).unwrap();
    assert_eq!(object["content"], Json::Array(heard.logprobs));
}

#[test]
fn text_is_streamed_although_tools_were_offered() {
    let mut question = sum("23 + 48");
    question.tools = vec![tool("weather")];
    for heard in listen(live(&question, 2)).into_values() {
        let completion = heard.completion.as_ref().unwrap();
        assert_eq!(heard.text(), completion.reply.content().unwrap_or_default());
    }
}
