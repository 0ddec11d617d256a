//! What a piece of a streamed reply tells, for those who must know before they pass it on.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// What a delta tells; of several things the last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// The role alone, or empty strings.
    Nothing,
    /// A piece of a refusal.
    Refusal,
    /// Reasoning, which stands beside the text and not in it.
    Reasoning,
    /// Text, calls, or what else a client can use.
    Text,
}

/// What the `delta` object of a chunk tells.
pub(super) fn said(fields: &RawValue) -> Said {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(fields.get()).unwrap_or_default();
    let told = fields.iter().map(|(name, value)| match name.as_str() {
        "role" => Said::Nothing,
        _ if matches!(value.get(), r#""""# | "null" | "[]") => Said::Nothing,
        "refusal" => Said::Refusal,
        "reasoning_content" | "reasoning" => Said::Reasoning,
        _ => Said::Text,
    });
    told.max().unwrap_or(Said::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_field_says_what_a_delta_tells() {
        for (fields, expected) in [
            ("{}", Said::Nothing),
            (r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[]}"#, Said::Nothing),
            (r#"{"role":"assistant","refusal":"I"}"#, Said::Refusal),
            (r#"{"reasoning":"hm","refusal":"I"}"#, Said::Reasoning),
            (r#"{"reasoning_content":"hm","content":""}"#, Said::Reasoning),
            (r#"{"content":" ","refusal":"I"}"#, Said::Text),
            (r#"{"tool_calls":[{"index":0}]}"#, Said::Text),
        ] {
            assert_eq!(said(&RawValue::from_string(fields.to_owned()).unwrap()), expected, "{fields}");
        }
    }
}
