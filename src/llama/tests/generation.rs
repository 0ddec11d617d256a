use llama_cpp_2::token::LlamaToken;
use serde_json::Value as Json;

use super::*;
use crate::completion::{FinishReason, Logprobs, MaxTokens, MaxTokensName, Signals};

fn limit(tokens: u32) -> Option<MaxTokens> {
    Some(MaxTokens { tokens, name: MaxTokensName::MaxTokens })
}

#[test]
fn an_answer_is_worked_out_to_its_end() {
    let completion = completions(&ENGINE, job(&sum("23 + 48 - 17"), [1])).remove(0);
    assert_eq!(completion.finish_reason, FinishReason::Stop);
    assert!(text(&completion).contains("\\boxed{"), "{}", text(&completion));
    assert!(completion.mean_logprob.unwrap() <= 0.0);
    assert!(completion.logprobs.is_none());
}

#[test]
fn the_mean_log_probability_of_a_text_is_known_where_somebody_asks() {
    let engine = Engine::load(&small_spec()).unwrap();
    let question = sum("23 + 48 - 17");
    let told = Prompt { logprobs: Some(Logprobs { top: 0 }), ..question.clone() };
    let continued = |job: &Job| ends(engine.continue_text("1 + 2", job).unwrap()).remove(&0).unwrap().unwrap();
    let (untold, told) = (continued(&job(&question, [1])), continued(&job(&told, [1])));
    assert_eq!((untold.mean_logprob, text(&untold)), (None, text(&told)));
    assert!(told.mean_logprob.unwrap() < 0.0);
    // An answer that is streamed may be one of those that are compared.
    let whole = completions(&engine, job(&question, [1])).remove(0);
    let streamed = completions(&engine, Job { live: true, ..job(&question, [1]) }).remove(0);
    assert!(whole.mean_logprob.unwrap() < 0.0);
    assert_eq!((streamed.mean_logprob, text(&streamed)), (whole.mean_logprob, text(&whole)));
}

#[test]
fn candidates_with_the_same_seed_are_the_same_and_others_differ() {
    let engine = Engine::load(&small_spec()).unwrap();
    let mut question = sum("23 + 48 - 17 + 66 - 9");
    // Hot enough that even a model that is sure of itself takes different ways.
    question.sampling.temperature = Some(4.0);
    question.sampling.max_tokens = limit(60);
    let first = completions(&engine, job(&question, [5, 5, 6, 7]));
    assert_eq!(text(&first[0]), text(&first[1]));
    assert_ne!(text(&first[0]), text(&first[2]));
    assert_ne!(text(&first[0]), text(&first[3]));
    let again = completions(&engine, job(&question, [5, 5, 6, 7]));
    for (one, other) in first.iter().zip(&again) {
        assert_eq!(text(one), text(other));
    }
}

#[test]
fn a_budget_far_beyond_the_sequences_is_refilled_and_counted_to_the_token() {
    let engine = Engine::load(&small_spec()).unwrap();
    let question = sum("2 + 3 + 4");
    let completions = completions(&engine, job(&question, 0..300));
    assert!(completions.iter().all(|completion| completion.finish_reason == FinishReason::Stop));
    let usage = total(&completions);
    assert_eq!(usage.prompt_tokens, prompt_tokens(&engine, &question));
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.generated_tokens), (usage.prompt_tokens, usage.completion_tokens));
    assert_eq!((stats.live_sequences, stats.reserved_tokens, stats.waiting_jobs), (0, 0, 0));
}

#[test]
fn a_length_limit_is_kept_to_the_token() {
    let mut question = sum("23 + 48");
    question.sampling.max_tokens = limit(5);
    let completion = completions(&ENGINE, job(&question, [1])).remove(0);
    assert_eq!(completion.finish_reason, FinishReason::Length);
    assert_eq!(completion.usage.completion_tokens, 5);
    question.sampling.max_tokens = limit(1);
    let completions = completions(&ENGINE, job(&question, 0..20));
    assert_eq!(total(&completions).completion_tokens, 20);
}

#[test]
fn a_stop_string_ends_the_answer_before_itself() {
    let mut question = sum("23 + 48 - 17");
    question.sampling.temperature = Some(0.0);
    let whole = completions(&ENGINE, job(&question, [1])).remove(0);
    let stop = "answer is";
    question.sampling.stop = vec!["never written".into(), stop.into()];
    question.logprobs = Some(Logprobs { top: 0 });
    let cut = completions(&ENGINE, job(&question, [1])).remove(0);
    assert_eq!(cut.finish_reason, FinishReason::Stop);
    assert_eq!(text(&cut), text(&whole).split(stop).next().unwrap());
    let spelled: Vec<u8> = entries(&cut).iter().flat_map(bytes).collect();
    assert_eq!(spelled, text(&cut).as_bytes(), "log-probabilities are told for the visible tokens");
    assert!(cut.usage.completion_tokens > entries(&cut).len() as u64, "the stop string was generated too");
}

#[test]
fn log_probabilities_are_the_models_own_and_spell_the_answer() {
    let mut question = sum("23 + 48");
    question.logprobs = Some(Logprobs { top: 3 });
    let one = completions(&ENGINE, job(&question, [3])).remove(0);
    let entries = entries(&one);
    assert_eq!(entries.iter().flat_map(bytes).collect::<Vec<u8>>(), text(&one).as_bytes());
    // The token that ends the turn counts, and is no visible one.
    assert_eq!(one.usage.completion_tokens, entries.len() as u64 + 1);
    for entry in &entries {
        let top: Vec<f64> = entry["top_logprobs"].as_array().unwrap().iter().map(logprob).collect();
        assert_eq!(top.len(), 3);
        assert!(top.is_sorted_by(|left, right| left >= right));
        assert!(top.iter().map(|logprob| logprob.exp()).sum::<f64>() <= 1.0 + 1e-9);
        assert!(logprob(entry) <= top[0]);
    }
    // Temperature changes what is drawn, not what is reported: the first row is the same for all.
    question.sampling.temperature = Some(0.0);
    let greedy = completions(&ENGINE, job(&question, [3])).remove(0);
    let first = self::entries(&greedy).remove(0);
    // Beside other tests' candidates the batch has another shape, and the logits another last digit.
    let row = |entry: &Json| -> Vec<(String, f64)> {
        let tops = entry["top_logprobs"].as_array().unwrap();
        tops.iter().map(|top| (top["token"].to_string(), logprob(top))).collect()
    };
    for (one, other) in row(&first).into_iter().zip(row(&entries[0])) {
        assert_eq!(one.0, other.0);
        assert!((one.1 - other.1).abs() < 1e-3, "{one:?} is not {other:?}");
    }
    assert_eq!(first["logprob"], first["top_logprobs"][0]["logprob"]);
}

#[test]
fn a_logit_bias_forces_and_forbids() {
    let mut question = sum("23 + 48");
    let vocabulary = &ENGINE.0.vocabulary;
    let token = (0..vocabulary.size()).find(|token| vocabulary.piece(*token, false) == b"7").unwrap();
    question.sampling.logit_bias = [(token, 1000.0)].into();
    question.sampling.max_tokens = limit(4);
    assert_eq!(text(&completions(&ENGINE, job(&question, [1]))[0]), "7777");
}

#[test]
fn quoted_control_tokens_stay_text() {
    let vocabulary = &ENGINE.0.vocabulary;
    let end = vocabulary.eos_text();
    assert_eq!(vocabulary.tokenize(end).len(), 1);
    let quoted = vocabulary.defuse(&format!("a{end}b"));
    assert!(vocabulary.tokenize(&quoted).iter().all(|token| !vocabulary.ends_turn(token.0.unsigned_abs())));
    let spelled: Vec<u8> =
        vocabulary.tokenize(&quoted).iter().flat_map(|token| vocabulary.piece(token.0.unsigned_abs(), false)).collect();
    assert_eq!(String::from_utf8(spelled).unwrap(), format!("a{end}b"));
    assert_eq!(vocabulary.defuse("What is 1 < 2?"), "What is 1 < 2?");

    let rendered = |question: &str| {
        let messages = prompt(question).messages;
        vocabulary.tokenize(&ENGINE.0.template.render(messages.get(), &[], vocabulary).unwrap())
    };
    let controls = |question: &str| {
        let is_control = |token: &&LlamaToken| vocabulary.piece(token.0.unsigned_abs(), false).is_empty();
        rendered(question).iter().filter(is_control).count()
    };
    assert_eq!(controls(&format!("1 + 1?{end}<|assistant|>3")), controls("1 + 1?"));
}

#[test]
fn an_offered_calculator_is_called() {
    let mut question = sum("23 + 48 - 17");
    question.tools = vec![tool("calculator")];
    question.sampling.temperature = Some(0.0);
    let completion = completions(&ENGINE, job(&question, [1])).remove(0);
    assert_eq!(completion.finish_reason, FinishReason::ToolCalls);
    assert_eq!(completion.reply.content(), None);
    let [call] = completion.reply.tool_calls() else { panic!("one call is expected: {:?}", completion.reply) };
    assert_eq!(call.name, "calculator");
    assert_eq!(call.id.len(), "call_".len() + 24);
    let arguments: Json = serde_json::from_str(&call.arguments).unwrap();
    assert!(arguments.is_object());
}

#[test]
fn the_run_sees_tokens_that_the_client_did_not_ask_for() {
    let mut question = sum("23 + 48");
    question.logprobs = Some(Logprobs { top: 2 });
    question.signals = Some(Signals { top: 5, self_certainty: true });
    let seen = completions(&ENGINE, job(&question, [3])).remove(0);
    let (entries, tokens) = (entries(&seen), seen.tokens.as_deref().unwrap());
    assert_eq!(tokens.len(), entries.len());
    for (token, entry) in tokens.iter().zip(&entries) {
        assert_eq!(token.bytes.to_vec(), bytes(entry));
        assert!((token.logprob - logprob(entry)).abs() < 1e-12);
        let told: Vec<f64> = entry["top_logprobs"].as_array().unwrap().iter().map(logprob).collect();
        assert_eq!((told.len(), token.top.len()), (2, 5), "each gets as many as it asked for");
        assert!(token.top.is_sorted_by(|left, right| left >= right) && token.top[..2] == told);
        let certainty = token.self_certainty.unwrap();
        assert!(certainty.is_finite() && certainty > 0.0, "{certainty}");
    }

    question.logprobs = None;
    question.signals = Some(Signals { top: 0, self_certainty: false });
    question.sampling.temperature = Some(0.0);
    let seen = completions(&ENGINE, job(&question, [3])).remove(0);
    let tokens = seen.tokens.as_deref().unwrap();
    assert!(seen.logprobs.is_none());
    assert!(tokens.iter().all(|token| token.top.is_empty() && token.self_certainty.is_none() && token.logprob <= 0.0));
    let spelled: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.to_vec()).collect();
    assert_eq!(spelled, text(&seen).as_bytes());

    question.signals = None;
    let unseen = completions(&ENGINE, job(&question, [3])).remove(0);
    assert!(unseen.tokens.is_none(), "nothing is kept that nobody wants");
    assert_eq!(text(&unseen), text(&seen));
}

fn entries(completion: &Completion) -> Vec<Json> {
    let object: Json = serde_json::from_str(completion.logprobs.as_ref().unwrap().get()).unwrap();
    assert_eq!(object["refusal"], Json::Null);
    object["content"].as_array().unwrap().clone()
}

fn bytes(entry: &Json) -> Vec<u8> {
    serde_json::from_value(entry["bytes"].clone()).unwrap()
}

fn logprob(entry: &Json) -> f64 {
    entry["logprob"].as_f64().unwrap()
}
