//! Every format, whole and by characters, against what a client should read.

mod cutting;

use serde_json::json;

use super::*;
use crate::llama::reasoning::ThoughtMarks;
use crate::llama::reply::{Piece, Reading, ReplyReader};

/// A message as the client reads it: thought, content, calls.
#[derive(Debug, Default, PartialEq)]
struct Message {
    reasoning: String,
    content: String,
    calls: Vec<(String, String)>,
}

fn reading(template: &str) -> Reading {
    let parameters = json!({ "properties": {
        "a": { "type": "integer" }, "text": { "type": "string" }, "on": { "type": ["boolean", "null"] },
        "list": { "type": "array" },
    } });
    let tool = |name: &str| OfferedTool { name: name.into(), parameters: Some(parameters.clone()) };
    Reading {
        tools: Some((ToolFormat::of(template), Arc::new([tool("add"), tool("send")]))),
        marks: ThoughtMarks::of(template),
        is_thought_opened: false,
        separates_thoughts: true,
    }
}

fn read_pieces<'a>(reading: &Reading, pieces: impl IntoIterator<Item = &'a str>) -> Message {
    let mut reader = ReplyReader::new(Some(reading));
    let mut all: Vec<Piece> = pieces.into_iter().flat_map(|piece| reader.push(piece)).collect();
    assert!(reader.decided_bytes() <= reader.read_bytes());
    all.extend(reader.finish());
    let mut message = Message::default();
    for piece in all {
        match piece {
            Piece::Reasoning(text) => message.reasoning.push_str(&text),
            Piece::Content(text) => message.content.push_str(&text),
            Piece::Call(name) => message.calls.push((name, String::new())),
            Piece::Arguments(text) => message.calls.last_mut().expect("the name comes first").1.push_str(&text),
        }
    }
    message
}

/// The message of a text, which must be the same character by character.
fn read_as(reading: &Reading, text: &str) -> Message {
    let whole = read_pieces(reading, [text]);
    let by_character = read_pieces(reading, text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]));
    assert_eq!(whole, by_character, "{text}");
    whole
}

fn read(template: &str, text: &str) -> Message {
    read_as(&reading(template), text)
}

fn message(content: &str, calls: &[(&str, &str)]) -> Message {
    let calls = calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
    Message { reasoning: String::new(), content: content.into(), calls }
}

const HERMES: &str = "<tool_call>";
const QWEN_CODER: &str = "<tool_call>\n<function=example>\n<parameter=x>";
const LLAMA: &str = "<|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS] [THINK] length != 9";
const PHI: &str = "<|tool_call|>";
const DEEPSEEK: &str = "<｜tool▁call▁begin｜>";
const GEMMA: &str = "```tool_code";
const GEMMA_4: &str = "<|tool_call>call: <|channel>thought";
const FAMILIES: &[&str] = &["", HERMES, QWEN_CODER, LLAMA, MISTRAL, PHI, DEEPSEEK, GEMMA, GEMMA_4, "<function=x>{"];

#[test]
fn text_without_calls_stays_as_it_is() {
    for template in FAMILIES {
        for text in
            ["", " ", "plain", " \n spaced \n", "a < b [c] {d} `e` ```f``` ｜<｜", "é😀\u{FDD0}", "[1] {2}", "{}"]
        {
            assert_eq!(read(template, text), message(text, &[]), "{template}");
        }
    }
}

#[test]
fn hermes_calls_are_json_between_marks() {
    assert_eq!(
        read(HERMES, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": {\"c\": []}}}\n</tool_call>"),
        message("", &[("add", "{\"a\": 1, \"b\": {\"c\": []}}")])
    );
    assert_eq!(
        read(
            HERMES,
            "Let me see. \n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call> Done.\n"
        ),
        message("Let me see.\nDone.", &[("f", "{}"), ("g", "{}")])
    );
    let list = r#"<tool_call>[{"name":"f","arguments":{"x":1}}, {"arguments":{"y":"]"},"name":"g"}]</tool_call>"#;
    assert_eq!(read(HERMES, list), message("", &[("f", r#"{"x":1}"#), ("g", r#"{"y":"]"}"#)]));
    let nested = r#"<tool_call>{"type":"function","id":7,"function":{"name":"f","arguments":{"x":1}}}</tool_call>"#;
    assert_eq!(read(HERMES, nested), message("", &[("f", r#"{"x":1}"#)]));
}

#[test]
fn strings_may_hold_marks_braces_and_escapes() {
    let arguments = r#"{"text": "</tool_call> } \" { \\ <tool_call> é😀 \u00e9", "a": -1.5e3}"#;
    let text = format!("<tool_call>{{\"name\": \"s\\u0065nd\", \"arguments\": {arguments}}}</tool_call>");
    assert_eq!(read(HERMES, &text), message("", &[("send", arguments)]));
}

#[test]
fn arguments_may_be_a_string_or_missing() {
    for (body, arguments) in [
        (r#"{"name":"f","arguments":"{\"x\": 1}"}"#, "{\"x\": 1}"),
        (r#"{"arguments":"{\"x\": 1}","name":"f"}"#, "{\"x\": 1}"),
        (r#"{"name":"f","arguments":null}"#, "{}"),
        (r#"{"name":"f"}"#, "{}"),
        (r#"{"name":"f","parameters":{"x":1},"extra":[{"name":1}],"n":-2.5}"#, "{\"x\":1}"),
    ] {
        assert_eq!(read(HERMES, &format!("<tool_call>{body}</tool_call>")), message("", &[("f", arguments)]), "{body}");
    }
}

#[test]
fn what_cannot_be_read_as_a_call_stays_text() {
    for text in [
        "<tool_call>",
        "<tool_call></tool_call>",
        "<tool_call>{\"name\":}</tool_call>",
        "<tool_call>[]</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": 5}</tool_call>",
        "<tool_call>{\"name\": \"f\"",
        "<tool_call>{\"arguments\": {\"x\": 1}}</tool_call>",
        "<tool_call>call f please</tool_call>",
        "</tool_call> <tool_call",
        "<tool_call> <tool_call> x",
    ] {
        assert_eq!(read(HERMES, text), message(text, &[]));
    }
    assert_eq!(
        read(HERMES, "<tool_call>oops <tool_call>{\"name\":\"f\"}</tool_call>"),
        message("<tool_call>oops", &[("f", "{}")])
    );
    assert_eq!(
        read(HERMES, "<tool_call>{\"name\":\"f\"}</tool_call><tool_call>oops</tool_call>"),
        message("<tool_call>oops</tool_call>", &[("f", "{}")])
    );
}

#[test]
fn a_call_that_was_told_of_keeps_what_the_model_wrote() {
    // Cut off by a limit of length.
    assert_eq!(
        read(HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": [1, \"a"),
        message("", &[("f", "{\"x\": [1, \"a")])
    );
    // The end of the turn may stand for the mark, and a brace may be missing or too many.
    for end in ["", "}", "}</tool_call>", "</tool_call>", "\n"] {
        assert_eq!(
            read(HERMES, &format!("<tool_call>{{\"name\":\"f\",\"arguments\":{{\"x\":1}}{end}")),
            message("", &[("f", "{\"x\":1}")]),
            "{end}"
        );
    }
    assert_eq!(read(HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}} done"), message("} done", &[("f", "{}")]));
}

#[test]
fn llama_calls_without_marks_only_what_was_offered() {
    for text in [
        r#" {"name": "add", "parameters": {"a": 1}} "#,
        r#"<|python_tag|>{"name": "add", "parameters": {"a": 1}}"#,
        r#"[{"name": "add", "parameters": {"a": 1}}]"#,
        r#"{"type": "function", "name": "add", "parameters": {"a": 1}}"#,
    ] {
        assert_eq!(read(LLAMA, text), message("", &[("add", r#"{"a": 1}"#)]), "{text}");
    }
    assert_eq!(
        read(LLAMA, r#"{"name": "add", "parameters": {}}; {"name": "send", "parameters": {"a": 1}}"#),
        message("", &[("add", "{}"), ("send", "{\"a\": 1}")])
    );
    for text in [
        r#"{"name": "Ada", "parameters": {"a": 1}}"#,
        r#"{"name": "Ada"}"#,
        r#"I call {"name": "add", "parameters": {"a": 1}}"#,
        r#"{"answer": 5}"#,
        "<|python_tag|>print(1)",
    ] {
        assert_eq!(read(LLAMA, text), message(text, &[]));
    }
    // Where the template has marks, JSON without them is an answer.
    let bare = r#"{"name": "add", "arguments": {"a": 1}}"#;
    assert_eq!(read(HERMES, bare), message(bare, &[]));
    assert_eq!(read("", bare), message("", &[("add", r#"{"a": 1}"#)]));
}

#[test]
fn llama_writes_a_tag_with_json_too() {
    assert_eq!(
        read("<function=example>{}", "<function=add>{\"a\": \"</function>\"}</function> so"),
        message("so", &[("add", "{\"a\": \"</function>\"}")])
    );
}

#[test]
fn qwen_coder_calls_are_tags_with_values_of_the_schema() {
    let text = "I call.\n<tool_call>\n<function=send>\n<parameter=text>\nfn main() {\n  \"</p>\"\n}\n</parameter>\n\
                <parameter=a>\n3\n</parameter>\n<parameter=on>\nTrue\n</parameter>\n<parameter=list>\n[1, {\"b\": 2}]\n\
                </parameter>\n<parameter=other>\n5\n</parameter>\n</function>\n</tool_call>";
    let arguments =
        r#"{"text": "fn main() {\n  \"</p>\"\n}", "a": 3, "on": true, "list": [1, {"b": 2}], "other": "5"}"#;
    assert_eq!(read(QWEN_CODER, text), message("I call.", &[("send", arguments)]));
    assert_eq!(
        read(
            QWEN_CODER,
            "<function=add>\n</function>\n<tool_call><function=add><parameter=a>x</parameter></function></tool_call>"
        ),
        message("", &[("add", "{}"), ("add", "{\"a\": \"x\"}")])
    );
    // Without an end: the arguments that are whole stand, and one that is cut off leaves them open.
    assert_eq!(read(QWEN_CODER, "<function=add><parameter=a>1</parameter>\n"), message("", &[("add", "{\"a\": 1}")]));
    assert_eq!(
        read(QWEN_CODER, "<function=add><parameter=a>1</parameter><parameter=text>hal"),
        message("", &[("add", "{\"a\": 1")])
    );
    for text in ["<function=", "<function=>", "<function=a\nb>", "<tool_call><funct", "<function=add> and so on"] {
        assert_eq!(read(QWEN_CODER, text), message(text, &[]));
    }
}

#[test]
fn mistral_calls_are_a_list_or_named() {
    assert_eq!(
        read(
            MISTRAL,
            r#"[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "abcdef123"}, {"name": "send", "arguments": {}}]"#
        ),
        message("", &[("add", "{\"a\": 1}"), ("send", "{}")])
    );
    assert_eq!(
        read(
            MISTRAL,
            r#"Yes.[TOOL_CALLS]add[ARGS]{"a": [1]}[TOOL_CALLS]send[CALL_ID]abcdef123[ARGS]{"text": "[TOOL_CALLS]"}"#
        ),
        message("Yes.", &[("add", "{\"a\": [1]}"), ("send", "{\"text\": \"[TOOL_CALLS]\"}")])
    );
    assert_eq!(read(MISTRAL, r#"[TOOL_CALLS]add{"a": 1}"#), message("", &[("add", "{\"a\": 1}")]));
    for text in [
        "[TOOL_CALLS]",
        "[TOOL_CALLS]add",
        "[TOOL_CALLS]add[ARGS]",
        "[TOOL_CALLS]two words[ARGS]{}",
        "[TOOL_CALLS]a[B]{}",
    ] {
        assert_eq!(read(MISTRAL, text), message(text, &[]));
    }
    assert!(ToolFormat::of(MISTRAL).wants_short_ids());
    assert!(!ToolFormat::of(HERMES).wants_short_ids());
}

#[test]
fn phi_calls_are_a_list_between_marks() {
    assert_eq!(
        read(
            PHI,
            r#"<|tool_call|>[{"name": "add", "arguments": {"a": 1}}, {"name": "send", "arguments": {}}]<|/tool_call|>"#
        ),
        message("", &[("add", "{\"a\": 1}"), ("send", "{}")])
    );
}

#[test]
fn deepseek_calls_have_a_mark_after_the_name() {
    let fenced = "On it.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{\"a\": \"```\"}\n```<｜tool▁call▁end｜>\n\
                  <｜tool▁call▁begin｜>function<｜tool▁sep｜>send\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    assert_eq!(read(DEEPSEEK, fenced), message("On it.", &[("add", "{\"a\": \"```\"}"), ("send", "{}")]));
    let plain = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>\
                 <｜tool▁call▁begin｜>send<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    assert_eq!(read(DEEPSEEK, plain), message("", &[("add", "{\"a\": 1}"), ("send", "{}")]));
    for text in [
        "<｜tool▁calls▁begin｜> and",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>add",
        "<｜tool▁call▁begin｜>a\nb<｜tool▁sep｜>{}",
    ] {
        assert_eq!(read(DEEPSEEK, text), message(text, &[]));
    }
}

#[test]
fn gemma_calls_are_code_or_json_in_a_fence() {
    for (code, arguments) in [
        ("add(a=1)", r#"{"a":1}"#),
        ("print(add(a=-2.5, text='it\\'s \"```\"\\n', on=True,))", r#"{"a":-2.5,"text":"it's \"```\"\n","on":true}"#),
        ("[add(list=[1, 'b', None], m={\"k\": (1, 2)})]", r#"{"list":[1,"b",null],"m":{"k":[1,2]}}"#),
        ("add()", "{}"),
        (r#"{"name": "add", "parameters": {"a": 1}}"#, r#"{"a":1}"#),
    ] {
        let text = format!("So:\n```tool_code\n{code}\n```\n");
        assert_eq!(read(GEMMA, &text), message("So:", &[("add", arguments)]), "{code}");
        assert_eq!(read(GEMMA, &format!("```tool_code\n{code}")), message("", &[("add", arguments)]), "{code}");
    }
    assert_eq!(
        read(GEMMA, "```tool_code\nadd(a=1)\nsend(text=\"x\")\n``` Done"),
        message("Done", &[("add", "{\"a\":1}"), ("send", "{\"text\":\"x\"}")])
    );
    assert_eq!(
        read(GEMMA, "```json\n{\"name\": \"add\", \"parameters\": {\"a\": 1}}\n```"),
        message("", &[("add", "{\"a\": 1}")])
    );
    for text in [
        "```tool_code\nx = 1\n```",
        "```tool_code\nadd(1)\n```",
        "```tool_code\n```",
        "```json\n{\"name\": \"Ada\"}\n```",
        "```tool_code\nadd(a=",
        "```python\nadd(a=1)\n```",
    ] {
        assert_eq!(read(GEMMA, text), message(text, &[]));
    }
}

#[test]
fn gemma_4_calls_have_bare_keys_and_marked_strings() {
    let text = "So.\n<|tool_call>call:send{text:<|\"|>it's {a}: \"1\", é<|\"|>,a:-2.5,on:true,no:None,m:{x:[1,<|\"|><|\"|>]}}<tool_call|>";
    let arguments = r#"{"text":"it's {a}: \"1\", é","a":-2.5,"on":true,"no":null,"m":{"x":[1,""]}}"#;
    assert_eq!(read(GEMMA_4, text), message("So.", &[("send", arguments)]));
    assert_eq!(
        read(GEMMA_4, "<|tool_call>call:add{}<tool_call|><|tool_call>call:send{a:1}"),
        message("", &[("add", "{}"), ("send", "{\"a\":1}")])
    );
    for text in [
        "<|tool_call>",
        "<|tool_call>call:add<tool_call|>",
        "<|tool_call>call:{}<tool_call|>",
        "<|tool_call>call:add{a:b}<tool_call|>",
        "<|tool_call>call:add{a:<|\"|>open}<tool_call|>",
        "<|tool_call>call:add{a:1",
    ] {
        assert_eq!(read(GEMMA_4, text), message(text, &[]));
    }
    let answer = read(GEMMA_4, "<|channel>thought\nTwo.\n<channel|>Four.");
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("Two.", "Four."));
}

#[test]
fn the_name_comes_before_the_arguments_and_these_as_they_are_written() {
    let mut reader = ReplyReader::new(Some(&reading(HERMES)));
    let mut told = Vec::new();
    for piece in ["Hi <tool", "_call>{\"name\": \"a", "dd\", \"arguments\": ", "{\"a\": ", "1", "}}</tool_call>"] {
        told.push(reader.push(piece));
    }
    let arguments = |text: &str| Piece::Arguments(text.into());
    assert_eq!(
        told,
        [
            vec![Piece::Content("Hi".into())],
            vec![],
            vec![],
            vec![Piece::Call("add".into()), arguments("{\"a\": ")],
            vec![arguments("1")],
            vec![arguments("}")],
        ]
    );
    assert_eq!(reader.finish(), []);
}

fn thought(reasoning: &str, content: &str) -> Message {
    Message { reasoning: reasoning.into(), ..message(content, &[]) }
}

#[test]
fn a_thought_at_the_beginning_is_told_apart() {
    let reading = Reading { tools: None, ..reading("") };
    for (text, expected) in [
        ("<think>\nTwo\n\nand two.\n</think>\n\nFour. ", thought("Two\n\nand two.", "Four. ")),
        (" \n<think></think>Four", thought("", "Four")),
        ("<think>\n\n</think>\n\n", thought("", "")),
        ("<think>cut </thi", thought("cut </thi", "")),
        ("<think>a </b> < c</think>d<think>e</think>", thought("a </b> < c", "d<think>e</think>")),
        ("I <think>x</think>", thought("", "I <think>x</think>")),
        ("<thi", thought("", "<thi")),
        ("  no thought ", thought("", "  no thought ")),
        ("</think>x", thought("", "</think>x")),
    ] {
        assert_eq!(read_as(&reading, text), expected, "{text}");
    }
    let mistral = Reading { marks: ThoughtMarks::of("[THINK]"), ..reading };
    assert_eq!(read_as(&mistral, "[THINK]Hm.[/THINK]Yes"), thought("Hm.", "Yes"));
}

#[test]
fn a_prompt_may_have_opened_the_thought() {
    let marks = ThoughtMarks::of("");
    for (prompt, is_opened) in [
        ("<|im_start|>assistant\n<think>\n", true),
        ("<｜Assistant｜><think>", true),
        ("<|im_start|>assistant\n", false),
        ("<think>\n\n</think>\n\n", false),
        ("", false),
    ] {
        assert_eq!(marks.are_opened_by(prompt), is_opened, "{prompt}");
    }
    let reading = Reading { is_thought_opened: true, tools: None, ..reading("") };
    for (text, expected) in [
        ("Two and two.\n</think>\n\nFour.", thought("Two and two.", "Four.")),
        ("<think>\nagain</think>Four.", thought("again", "Four.")),
        ("never closed ", thought("never closed", "")),
        ("</think>Four.", thought("", "Four.")),
        (" <", thought("<", "")),
        ("", thought("", "")),
    ] {
        assert_eq!(read_as(&reading, text), expected, "{text}");
    }
    let mut reader = ReplyReader::new(Some(&reading));
    assert!(reader.is_thinking());
    reader.push("Two </think>");
    assert!(!reader.is_thinking());
}

#[test]
fn a_thought_that_stays_in_the_text_is_as_the_model_wrote_it_and_holds_no_calls() {
    let call = "<tool_call>{\"name\":\"add\"}</tool_call>";
    let kept = Reading { separates_thoughts: false, ..reading(HERMES) };
    let text = format!(" <think>\nMaybe {call}?\n</think>\n\n{call}");
    assert_eq!(read_as(&kept, &text), message(&format!(" <think>\nMaybe {call}?\n</think>"), &[("add", "{}")]));
    let apart = read_as(&reading(HERMES), &text);
    assert_eq!(apart.reasoning, format!("Maybe {call}?"));
    assert_eq!((apart.content.as_str(), apart.calls.len()), ("", 1));
    let without_tools = Reading { tools: None, ..kept };
    assert_eq!(read_as(&without_tools, &text), message(&text, &[]));
}
