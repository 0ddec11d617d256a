//! What Bedrock asks of documents in messages.

use std::collections::HashSet;

use serde_json::Value;

use super::failure::Failure;

/// Documents in one request.
const MOST: usize = 5;

/// Holds the documents of messages against the rules.
///
/// # Errors
///
/// The first refusal.
pub fn check(messages: &[Value]) -> Result<(), Failure> {
    let mut names = HashSet::new();
    let mut count = 0;
    for message in messages {
        let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
        let documents: Vec<&Value> = blocks.iter().filter_map(|block| block.get("document")).collect();
        let has_text = blocks.iter().any(|block| block.get("text").is_some());
        if !documents.is_empty() && !has_text {
            return Err(Failure::validation("A text block must be included when using documents."));
        }
        count += documents.len();
        for name in documents.iter().filter_map(|document| document["name"].as_str()) {
            if !is_name(name) {
                return Err(Failure::validation(
                    "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, \
                     parentheses, and square brackets. The name can't contain more than one consecutive whitespace \
                     character.",
                ));
            }
            if !names.insert(name) {
                return Err(Failure::validation(
                    "Messages can't contain duplicate document names. Rename the document and retry your request.",
                ));
            }
        }
    }
    if count > MOST {
        let message = format!("You can't include more than {MOST} documents in a request.");
        return Err(Failure::validation(message));
    }
    Ok(())
}

/// The service takes underscores too, which it does not say.
fn is_name(name: &str) -> bool {
    let is_allowed =
        |letter: char| letter.is_ascii_alphanumeric() || letter.is_whitespace() || "-()[]_".contains(letter);
    let letters: Vec<char> = name.chars().collect();
    letters.iter().copied().all(is_allowed)
        && !letters.windows(2).any(|pair| pair[0].is_whitespace() && pair[1].is_whitespace())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(names: &[&str], text: Option<&str>) -> String {
        let documents = names.iter().map(|name| json!({"document": {"name": name, "source": {"text": "x"}}}));
        let content: Vec<Value> = documents.chain(text.map(|text| json!({ "text": text }))).collect();
        let messages = [json!({"role": "user", "content": content})];
        check(&messages).err().map_or_else(String::new, |failure| failure.message())
    }

    #[test]
    fn documents_have_names_of_their_own_and_a_text_beside_them() {
        assert_eq!(refusal(&["Report (2025) [final]-a_b", "other"], Some("Sum it up")), "");
        assert_eq!(refusal(&["report"], None), "A text block must be included when using documents.");
        assert!(refusal(&["report", "report"], Some("x")).contains("duplicate document names"));
        for name in ["report.pdf", "two  spaces", "naïve"] {
            assert!(refusal(&[name], Some("x")).starts_with("The document file name can only contain"), "{name}");
        }
        assert!(refusal(&["1", "2", "3", "4", "5", "6"], Some("x")).contains("more than 5 documents"));
    }
}
