use std::collections::BTreeMap;

use super::*;
use crate::completion::{Logprobs, MaxTokens, Sampling, Tool};
use crate::config::capabilities::{CapabilityOverrides, CapabilityTable};
use crate::config::provider::ProviderName;
use crate::failure::FailureKind;

/// A row of which only these cells say something.
fn row(cells: Value) -> Capabilities {
    let overrides = CapabilityOverrides::parse("capabilities", &cells).unwrap();
    CapabilityTable::new(ProviderName::OpenAiCompatible).with(overrides).of("m")
}

fn fit_with(prompt: &mut Prompt, row: &Capabilities, configured: Value) -> Result<Vec<String>, Failure> {
    let configured = configured.as_object().unwrap();
    super::fit(prompt, &Target { provider: "here", row, configured })
}

fn fit(prompt: &mut Prompt, cells: Value) -> Result<Vec<String>, Failure> {
    fit_with(prompt, &row(cells), json!({}))
}

fn text(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn tool(name: &str) -> Tool {
    let definition = json!({"type": "function", "function": {"name": name}});
    Tool { definition: raw(&definition), name: Some(name.to_owned()), parameters: None }
}

fn prompt() -> Prompt {
    Prompt {
        model: "m".to_owned(),
        messages: text(r#"[ {"role":"user", "content":"hi"} ]"#),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: BTreeMap::new(),
    }
}

/// Everything that a client can ask for.
fn full() -> Prompt {
    Prompt {
        messages: text(r#"[{"role":"developer","content":"x"}, {"role":"assistant","content":"y"}]"#),
        tools: vec![tool("f"), tool("g")],
        tool_choice: Some(text(r#"{"type":"function","function":{"name":"g"}}"#)),
        response_format: Some(text(r#"{"type":"json_object"}"#)),
        sampling: Sampling {
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(3),
            min_p: Some(0.1),
            max_tokens: Some(MaxTokens { tokens: 5, name: MaxTokensName::MaxTokens }),
            seed: Some(1),
            stop: vec!["a".to_owned(); 9],
            presence_penalty: Some(0.1),
            frequency_penalty: Some(0.2),
            logit_bias: BTreeMap::from([(1, 2.0)]),
        },
        logprobs: Some(Logprobs { top: 20 }),
        passthrough: BTreeMap::from([("parallel_tool_calls".to_owned(), text("true")), ("zzz".to_owned(), text("1"))]),
        ..prompt()
    }
}

/// All of a prompt that goes upstream, as text.
fn shown(prompt: &Prompt) -> String {
    format!("{prompt:?}")
}

#[track_caller]
fn refused(prompt: &mut Prompt, cells: Value) -> Failure {
    let failure = fit(prompt, cells).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    assert!(failure.message.contains("`m` of here"), "{}", failure.message);
    failure
}

#[track_caller]
fn only(warnings: &[String]) -> &str {
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    &warnings[0]
}

#[test]
fn where_nothing_is_known_everything_goes_as_it_came() {
    let mut prompt = full();
    assert_eq!(fit(&mut prompt, json!({})).unwrap(), Vec::<String>::new());
    assert_eq!(shown(&prompt), shown(&full()));
}

#[test]
fn a_second_fitting_finds_nothing_to_do() {
    let cells = json!({
        "sampling": false, "top_k": false, "logit_bias": false, "length_limit": "max_completion_tokens",
        "max_top_logprobs": 5, "parallel_tools": false, "forced_tool": "never", "json_object": false,
        "developer_role": false, "refuses_unknown_fields": true, "max_stop": 9
    });
    let mut prompt = full();
    assert_eq!(fit(&mut prompt, cells.clone()).unwrap().len(), 8);
    let once = shown(&prompt);
    assert_eq!(fit(&mut prompt, cells).unwrap(), Vec::<String>::new());
    assert_eq!(shown(&prompt), once);
}

#[test]
fn the_length_limit_goes_under_the_name_that_is_taken_without_a_word() {
    use MaxTokensName::{MaxCompletionTokens, MaxTokens as Old};
    for (cell, from, to) in [
        ("max_tokens", MaxCompletionTokens, Old),
        ("max_completion_tokens", Old, MaxCompletionTokens),
        ("either", Old, Old),
        ("either", MaxCompletionTokens, MaxCompletionTokens),
    ] {
        let limit = |name| Some(MaxTokens { tokens: 7, name });
        let mut prompt = prompt();
        prompt.sampling.max_tokens = limit(from);
        assert!(fit(&mut prompt, json!({"length_limit": cell})).unwrap().is_empty());
        assert_eq!(prompt.sampling.max_tokens, limit(to));
    }
}

#[test]
fn a_model_that_samples_in_its_own_way_gets_no_settings_and_is_told_of_where_they_differed() {
    let mut differing = full();
    let warnings = fit(&mut differing, json!({"sampling": false})).unwrap();
    let warning = only(&warnings);
    assert!(
        warning.starts_with("`temperature`, `top_p`, `presence_penalty`, `frequency_penalty` were left out"),
        "{warning}"
    );
    assert_eq!(
        differing.sampling,
        Sampling { temperature: None, top_p: None, presence_penalty: None, frequency_penalty: None, ..full().sampling }
    );
    // These are what it does anyway.
    let mut same = prompt();
    same.sampling.temperature = Some(1.0);
    same.sampling.presence_penalty = Some(0.0);
    assert!(fit(&mut same, json!({"sampling": false})).unwrap().is_empty());
    assert_eq!(same.sampling, Sampling::default());
}

#[test]
fn a_server_with_defaults_of_its_own_is_sent_those_of_openai_unless_somebody_said_otherwise() {
    let cells = json!({"explicit_sampling": true});
    let mut bare = prompt();
    assert!(fit(&mut bare, cells.clone()).unwrap().is_empty());
    assert_eq!((bare.sampling.temperature, bare.sampling.top_p), (Some(1.0), Some(1.0)));
    let mut named = prompt();
    named.sampling.temperature = Some(0.0);
    assert!(fit_with(&mut named, &row(cells), json!({"top_p": 0.5})).unwrap().is_empty());
    assert_eq!((named.sampling.temperature, named.sampling.top_p), (Some(0.0), None));
}

#[test]
fn single_settings_that_are_not_taken_are_left_out_by_name() {
    let mut one = full();
    let warnings = fit(&mut one, json!({"top_k": false})).unwrap();
    assert_eq!(only(&warnings), "`top_k`, `min_p` were left out: `m` of here does not take it");
    assert_eq!(one.sampling, Sampling { top_k: None, min_p: None, ..full().sampling });

    let mut one = full();
    let warnings = fit(&mut one, json!({"logit_bias": false})).unwrap();
    assert!(only(&warnings).starts_with("`logit_bias` was left out"), "{warnings:?}");
    assert!(one.sampling.logit_bias.is_empty());

    // The run draws from it too.
    let mut one = full();
    let warnings = fit(&mut one, json!({"seed": false})).unwrap();
    assert!(only(&warnings).starts_with("`seed` was left out"), "{warnings:?}");
    assert_eq!(one.sampling.seed, Some(1));
    assert!(fit(&mut prompt(), json!({"seed": false, "logit_bias": false, "top_k": false})).unwrap().is_empty());
}

#[test]
fn more_stop_texts_than_are_taken_are_refused() {
    for (most, given, refuses) in [
        (json!(4), 4, false),
        (json!(4), 5, true),
        (json!(0), 0, false),
        (json!(0), 1, true),
        (json!("unlimited"), 9, false),
    ] {
        let mut prompt = prompt();
        prompt.sampling.stop = vec!["a".to_owned(); given];
        let cells = json!({"max_stop": most});
        match refuses {
            true => assert_eq!(refused(&mut prompt, cells).param.as_deref(), Some("stop")),
            false => assert!(fit(&mut prompt, cells).unwrap().is_empty()),
        }
    }
}

#[test]
fn log_probabilities_are_refused_where_there_are_none_and_lowered_where_there_are_fewer() {
    let mut none = full();
    assert_eq!(refused(&mut none, json!({"logprobs": false})).param.as_deref(), Some("logprobs"));
    for (wanted, given) in [(20, 5), (5, 5), (0, 0)] {
        let mut prompt = prompt();
        prompt.logprobs = Some(Logprobs { top: wanted });
        let warnings = fit(&mut prompt, json!({"max_top_logprobs": 5})).unwrap();
        assert_eq!(warnings.len(), usize::from(wanted != given), "{warnings:?}");
        assert_eq!(prompt.logprobs, Some(Logprobs { top: given }));
    }
    assert!(fit(&mut prompt(), json!({"logprobs": false})).unwrap().is_empty());
}

#[test]
fn tools_are_refused_where_there_are_none() {
    assert_eq!(refused(&mut full(), json!({"tools": false})).param.as_deref(), Some("tools"));
    assert!(fit(&mut prompt(), json!({"tools": false})).unwrap().is_empty());
    let mut parallel = full();
    let warnings = fit(&mut parallel, json!({"parallel_tools": false})).unwrap();
    assert!(only(&warnings).starts_with("`parallel_tool_calls` was left out"), "{warnings:?}");
    assert_eq!(parallel.passthrough.keys().collect::<Vec<_>>(), ["zzz"]);
}

#[test]
fn a_tool_that_cannot_be_named_is_offered_alone() {
    for (cell, choice) in [("required", Some("\"required\"")), ("never", None)] {
        let mut prompt = full();
        let warnings = fit(&mut prompt, json!({"forced_tool": cell})).unwrap();
        assert!(only(&warnings).contains("`g` alone"), "{warnings:?}");
        assert_eq!(prompt.tools.iter().map(|tool| tool.name.as_deref().unwrap()).collect::<Vec<_>>(), ["g"]);
        assert_eq!(prompt.tool_choice.as_ref().map(|choice| choice.get()), choice);
    }
    // A word is taken where words are; where none is, the model may do as it likes.
    for (cell, choice, left, warned) in [
        ("required", "\"required\"", Some("\"required\""), 0),
        ("never", "\"required\"", None, 1),
        ("never", "\"auto\"", Some("\"auto\""), 0),
        ("never", "\"none\"", Some("\"none\""), 0),
        ("named", "\"required\"", Some("\"required\""), 0),
    ] {
        let mut prompt = full();
        prompt.tool_choice = Some(text(choice));
        let warnings = fit(&mut prompt, json!({"forced_tool": cell})).unwrap();
        assert_eq!((warnings.len(), prompt.tools.len()), (warned, 2), "{cell} {choice}: {warnings:?}");
        assert_eq!(prompt.tool_choice.as_ref().map(|choice| choice.get()), left);
    }
    // What is no choice that can be understood is the server's to refuse.
    for choice in [
        r#"{"type":"function","function":{"name":"absent"}}"#,
        r#"{"type":"custom","custom":{"name":"g"}}"#,
        r#"{"type":"function","function":null}"#,
        "7",
    ] {
        let mut prompt = full();
        prompt.tool_choice = Some(text(choice));
        assert!(fit(&mut prompt, json!({"forced_tool": "required"})).unwrap().is_empty(), "{choice}");
        assert_eq!((prompt.tools.len(), prompt.tool_choice.unwrap().get()), (2, choice));
    }
}

#[test]
fn a_format_that_is_not_taken_is_asked_for_by_the_one_that_is() {
    let schema = r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}"#;
    let object = r#"{"type":"json_object"}"#;
    let any_object = r#"{"type":"json_schema","json_schema":{"name":"object","schema":{"type":"object"}}}"#;
    let both = json!({"json_schema": false, "json_object": false});
    for (cells, format, becomes, warned) in [
        (json!({"json_object": false}), object, any_object, 1),
        (json!({"json_object": false}), schema, schema, 0),
        (json!({"json_schema": false}), schema, object, 1),
        (json!({"json_schema": false}), object, object, 0),
        (json!({"json_schema": true, "json_object": true}), schema, schema, 0),
        (both.clone(), r#"{"type":"text"}"#, r#"{"type":"text"}"#, 0),
        (both.clone(), "[]", "[]", 0),
    ] {
        let mut prompt = prompt();
        prompt.response_format = Some(text(format));
        let warnings = fit(&mut prompt, cells.clone()).unwrap();
        assert_eq!(warnings.len(), warned, "{cells} {format}: {warnings:?}");
        assert_eq!(prompt.response_format.unwrap().get(), becomes);
    }
    for format in [schema, object] {
        let mut prompt = prompt();
        prompt.response_format = Some(text(format));
        assert_eq!(refused(&mut prompt, both.clone()).param.as_deref(), Some("response_format"));
    }
    assert!(fit(&mut prompt(), both).unwrap().is_empty());
}

#[test]
fn the_role_developer_becomes_system_and_no_other_byte_changes() {
    let cells = || json!({"developer_role": false});
    for (messages, expected) in [
        (
            r#"[ {"content":"developer", "role" : "developer","name":"d"},{"role":"user","content":[{"type":"text","text":"\u00e9"}]},  {"role":"deve\u006coper","content":1e0} ]"#,
            r#"[ {"content":"developer", "role" : "system","name":"d"},{"role":"user","content":[{"type":"text","text":"\u00e9"}]},  {"role":"system","content":1e0} ]"#,
        ),
        (r#"[{"role":"developer"}]"#, r#"[{"role":"system"}]"#),
        (r#"[ {"role":"user","content":"developer"} ]"#, r#"[ {"role":"user","content":"developer"} ]"#),
        (r#"[{"role":null},{}]"#, r#"[{"role":null},{}]"#),
        (r#"[7]"#, r#"[7]"#),
        ("[]", "[]"),
    ] {
        let mut prompt = prompt();
        prompt.messages = text(messages);
        assert!(fit(&mut prompt, cells()).unwrap().is_empty());
        assert_eq!(prompt.messages.get(), expected);
    }
}

#[test]
fn a_last_message_of_the_assistant_is_told_of_where_it_is_not_continued() {
    let warned = |cell: &str, messages: &str, field: Option<&str>, configured: Value| {
        let mut prompt = prompt();
        prompt.messages = text(messages);
        if let Some(value) = field {
            prompt.passthrough.insert("continue_final_message".to_owned(), text(value));
        }
        let warnings = fit_with(&mut prompt, &row(json!({"prefill": cell})), configured).unwrap();
        assert_eq!(prompt.messages.get(), messages);
        warnings
    };
    let prefilled = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
    assert!(only(&warned("new_turn", prefilled, None, json!({}))).contains("begins a new turn"));
    assert!(only(&warned("by_field", prefilled, None, json!({}))).contains("`continue_final_message: true`"));
    assert_eq!(warned("by_field", prefilled, Some("false"), json!({})).len(), 1);
    assert!(warned("by_field", prefilled, Some("true"), json!({})).is_empty());
    assert!(warned("by_field", prefilled, None, json!({"continue_final_message": true})).is_empty());
    for cell in ["continued", "unknown"] {
        assert!(warned(cell, prefilled, None, json!({})).is_empty());
    }
    for others in [r#"[{"role":"assistant","content":"b"},{"role":"user","content":"a"}]"#, "[]", "[{}]", "[1]"] {
        assert!(warned("new_turn", others, None, json!({})).is_empty(), "{others}");
    }
}

#[test]
fn fields_that_the_server_would_refuse_are_left_out_and_its_own_are_not() {
    let groq = CapabilityTable::new(ProviderName::Groq).of("m");
    let mut prompt = prompt();
    for name in ["reasoning_format", "reasoning_effort", "user", "top_a", "guided_json"] {
        prompt.passthrough.insert(name.to_owned(), text("1"));
    }
    let warnings = fit_with(&mut prompt, &groq, json!({"top_a": 1})).unwrap();
    assert_eq!(
        only(&warnings),
        "`guided_json`, `top_a` were left out: `m` of here refuses fields that it does not know"
    );
    assert_eq!(prompt.passthrough.keys().collect::<Vec<_>>(), ["reasoning_effort", "reasoning_format", "user"]);
}

#[test]
fn of_two_samplers_that_are_refused_together_one_is_left() {
    for (temperature, top_p, left, warns) in [
        (Some(0.5), Some(0.9), (Some(0.5), None), true),
        (Some(0.0), Some(0.9), (Some(0.0), None), true),
        // At 1 it means nothing.
        (Some(1.0), Some(0.9), (None, Some(0.9)), false),
        (Some(0.5), Some(1.0), (Some(0.5), None), false),
        (Some(1.0), Some(1.0), (Some(1.0), None), false),
        (Some(0.5), None, (Some(0.5), None), false),
        (None, Some(0.9), (None, Some(0.9)), false),
        (None, None, (None, None), false),
    ] {
        let mut prompt = prompt();
        (prompt.sampling.temperature, prompt.sampling.top_p) = (temperature, top_p);
        let warnings = fit(&mut prompt, json!({"temperature_with_top_p": false})).unwrap();
        assert_eq!((prompt.sampling.temperature, prompt.sampling.top_p), left, "{temperature:?} {top_p:?}");
        assert_eq!(!warnings.is_empty(), warns, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.starts_with("`top_p` was left out")), "{warnings:?}");
    }
}

#[test]
fn a_message_to_continue_is_refused_where_none_is_continued() {
    let mut ended = prompt();
    ended.messages = text(r#"[{"role":"user","content":"x"}, {"role":"assistant","content":"y"}]"#);
    let failure = refused(&mut ended, json!({"prefill": "refused"}));
    assert_eq!(failure.param.as_deref(), Some("messages"));
    assert!(failure.message.contains("end with one of the user's"), "{}", failure.message);
    assert_eq!(fit(&mut prompt(), json!({"prefill": "refused"})).unwrap(), Vec::<String>::new());
}
