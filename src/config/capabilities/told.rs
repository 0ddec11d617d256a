//! The table for people: in the API's description and in the manual.

use serde_json::Value;

use super::columns::{COLUMNS, Capabilities};
use super::rows::{ROWS, Row};
use crate::config::provider::ProviderName;

/// Columns that are shown side by side: more than these no page is wide enough for.
const GROUPS: [(&str, &[&str]); 3] = [
    (
        "Sampling",
        &[
            "n",
            "max_n",
            "sampling",
            "temperature_with_top_p",
            "top_k",
            "logit_bias",
            "seed",
            "max_stop",
            "length_limit",
            "explicit_sampling",
        ],
    ),
    (
        "Tools, formats and log-probabilities",
        &["tools", "parallel_tools", "forced_tool", "json_object", "json_schema", "logprobs", "max_top_logprobs"],
    ),
    (
        "Messages and calls",
        &["developer_role", "prefill", "refuses_unknown_fields", "stream_usage", "stops_billing", "prompt_caching"],
    ),
];

/// The columns, then the rows, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| column | what it says |\n|---|---|\n");
    for column in COLUMNS {
        text.push_str(&format!("| `{}` | {} |\n", column.name, column.about));
    }
    for (title, columns) in GROUPS {
        text.push_str(&format!("\n**{title}**\n\n| provider | models |"));
        columns.iter().for_each(|column| text.push_str(&format!(" `{column}` |")));
        text.push_str(&format!("\n|---|---|{}\n", "---|".repeat(columns.len())));
        // `litellm` is a way to name the others.
        for row in ROWS.iter().filter(|row| row.provider != ProviderName::LiteLlm) {
            text.push_str(&format!("| `{}` | {} |", row.provider.as_str(), models(row)));
            columns.iter().for_each(|column| text.push_str(&format!(" {} |", cell(&row.capabilities, column))));
            text.push('\n');
        }
    }
    text
}

fn models(row: &Row) -> String {
    if row.models == ["*"] {
        let has_families = ROWS.iter().filter(|other| other.provider == row.provider).count() > 1;
        return if has_families { "others" } else { "all" }.to_owned();
    }
    row.models.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn cell(row: &Capabilities, column: &str) -> String {
    // Of no meaning without the other.
    if column == "max_top_logprobs" && row.top_logprobs().is_none() {
        return String::new();
    }
    let value = row.cells().into_iter().find_map(|(name, value)| (name == column).then_some(value));
    match value.expect("a test looks for every column") {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(word) if word == "unknown" => "?".to_owned(),
        Value::String(word) => word,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_manual_holds_this_very_table() {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
        let manual = fs::read_to_string(manual).unwrap();
        assert!(manual.contains(&markdown()), "put this table into docs/providers.md:\n{}", markdown());
    }

    #[test]
    fn every_column_and_every_row_is_shown() {
        let mut shown: Vec<_> = GROUPS.iter().flat_map(|(_, columns)| columns.iter().copied()).collect();
        let mut known: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        shown.sort_unstable();
        known.sort_unstable();
        assert_eq!(shown, known);
        let text = markdown();
        for line in ["| `groq` | others | no |", "| `openai` | others | yes |", "| `vllm` | all | yes |"] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert_eq!(text.matches("| `ollama` |").count(), GROUPS.len());
    }
}
