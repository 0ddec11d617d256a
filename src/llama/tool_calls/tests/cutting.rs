//! What holds of any text, however it is cut into pieces.

use proptest::prelude::*;

use super::*;

/// Texts made of what the formats are made of.
fn likely_text() -> impl Strategy<Value = String> {
    let fragments = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<function=add>",
        "</function>",
        "<parameter=a>",
        "</parameter>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<|tool_call>call:add{",
        "<tool_call|>",
        "<|\"|>",
        "a:1",
        "<|tool_call|>",
        "<|/tool_call|>",
        "<|python_tag|>",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "```tool_code\n",
        "```json\n",
        "```",
        "<think>",
        "</think>",
        "[THINK]",
        "{\"name\": \"add\", \"arguments\": {\"a\": 1}}",
        "{\"name\": \"add\"",
        "\"arguments\": {",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ":",
        ",",
        ";",
        " ",
        "\n",
        "add",
        "add(a='x')",
        "function",
        "é😀",
        "<",
        "｜",
        "name",
        "null",
    ]);
    let piece = prop_oneof![8 => fragments.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn however_a_text_is_cut_the_same_message_comes_of_it(
        text in likely_text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        family in 0..FAMILIES.len(),
        is_thought_opened: bool,
        separates_thoughts: bool,
    ) {
        let reading = Reading { is_thought_opened, separates_thoughts, ..reading(FAMILIES[family]) };
        let whole = read_as(&reading, &text);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        ends.retain(|end| text.is_char_boundary(*end));
        ends.push(text.len());
        ends.sort_unstable();
        let mut start = 0;
        let pieces = ends.into_iter().map(|end| &text[std::mem::replace(&mut start, end)..end]);
        prop_assert_eq!(read_pieces(&reading, pieces), whole);
    }

    #[test]
    fn nothing_but_marks_and_white_space_is_lost_of_a_text_without_calls(text in "[a-z<>{}\\[\\]|`\" \n]{0,40}", family in 0..FAMILIES.len()) {
        let message = read(FAMILIES[family], &text);
        if message.calls.is_empty() {
            prop_assert_eq!(message.content, text);
        }
    }

    #[test]
    fn a_call_that_is_written_is_read_whatever_its_arguments_say(value: String, before in "[a-z ]{0,8}") {
        let arguments = json!({ "text": value }).to_string();
        for (family, text) in [
            (HERMES, format!("<tool_call>\n{{\"name\": \"send\", \"arguments\": {arguments}}}\n</tool_call>")),
            (MISTRAL, format!("[TOOL_CALLS]send[ARGS]{arguments}")),
            (DEEPSEEK, format!("<｜tool▁call▁begin｜>send<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>")),
            (PHI, format!("<|tool_call|>[{{\"name\": \"send\", \"arguments\": {arguments}}}]<|/tool_call|>")),
        ] {
            let text = format!("{before}{text}");
            prop_assert_eq!(read(family, &text), message(before.trim_end(), &[("send", &arguments)]));
        }
    }
}
