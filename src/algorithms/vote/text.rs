//! How texts are compared.

use fancy_regex::Regex;

use super::key::Key;
use super::rules::VoteRules;
use super::validity::Validity;
use crate::answer::{Json, answer_class, choice, extract, number_class};
use crate::config::run::VoteOn;

/// The text vote of one request: `auto` is resolved as far as it can be before candidates are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextVote {
    Exact,
    Number,
    Choice,
    Regex,
    Json,
    Answer,
    /// The answer where at least half of the candidates that answer in text give one, else similarity.
    AnswerOrSimilarity,
    Similarity,
}

impl TextVote {
    pub fn of(rules: &VoteRules, validity: &Validity) -> Self {
        match rules.vote_on {
            VoteOn::Exact => Self::Exact,
            VoteOn::Number => Self::Number,
            VoteOn::Choice => Self::Choice,
            VoteOn::Regex => Self::Regex,
            VoteOn::Json => Self::Json,
            VoteOn::Answer => Self::Answer,
            VoteOn::Similarity => Self::Similarity,
            VoteOn::Auto if !rules.patterns().is_empty() => Self::Regex,
            VoteOn::Auto if validity.wants_json() => Self::Json,
            VoteOn::Auto => Self::AnswerOrSimilarity,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Number => "number",
            Self::Choice => "choice",
            Self::Regex => "regex",
            Self::Json => "json",
            Self::Answer | Self::AnswerOrSimilarity => "answer",
            Self::Similarity => "similarity",
        }
    }

    /// Why a candidate without a key abstains.
    pub fn abstention(self) -> &'static str {
        match self {
            Self::Exact | Self::Similarity => "abstained: the text is empty",
            Self::Number => "abstained: there is no number in the text",
            Self::Choice => "abstained: the text names no option",
            Self::Regex => "abstained: no pattern matches the text",
            Self::Json => "abstained: the text is not JSON",
            Self::Answer | Self::AnswerOrSimilarity => "abstained: there is no answer in the text",
        }
    }

    /// The vote of a text; `None` abstains. `json` is the text parsed, where that was done already.
    pub fn key(self, rules: &VoteRules, text: &str, json: Option<Json>) -> Option<Key> {
        match self {
            Self::Exact => Some(text.trim()).filter(|text| !text.is_empty()).map(|text| Key::single(text.to_owned())),
            Self::Number => number_class(text).map(Key::single),
            Self::Choice => choice(text).map(|letter| Key::single(letter.to_string())),
            Self::Regex => regex_key(rules.patterns(), text),
            Self::Json => {
                let mut json = json.or_else(|| embedded_json(text))?;
                json.trim_strings();
                Some(Key { levels: vec![json.to_string()], fields: Some(json) })
            }
            Self::Answer | Self::AnswerOrSimilarity => extract(text).and_then(answer_class).map(Key::single),
            Self::Similarity => None,
        }
    }
}

/// One slot a pattern: its first group where that took part in the match, else the whole match. A search that
/// exceeds its budget counts as no match.
fn regex_key(patterns: &[Regex], text: &str) -> Option<Key> {
    let slot = |pattern: &Regex| {
        let captures = pattern.captures(text).ok()??;
        let found = captures.get(1).or_else(|| captures.get(0))?;
        Some(found.as_str().trim().to_owned())
    };
    let slots: Vec<Option<String>> = patterns.iter().map(slot).collect();
    match slots.as_slice() {
        slots if slots.iter().all(Option::is_none) => None,
        [Some(only)] => Some(Key::single(only.clone())),
        slots => {
            let level = |slot: &Option<String>| slot.clone().map_or(Json::Null, Json::Text).to_string();
            Some(Key { levels: slots.iter().map(level).collect(), fields: None })
        }
    }
}

/// The text as JSON, or the last fenced block in it.
fn embedded_json(text: &str) -> Option<Json> {
    Json::parse(text).ok().or_else(|| {
        let close = text.rfind("```")?;
        let open = text[..close].rfind("```")? + 3;
        let block = &text[open..close];
        // The first line of a fence may name the language.
        let body = block.split_once('\n').map_or(block, |(language, rest)| {
            if language.trim().chars().all(char::is_alphanumeric) { rest } else { block }
        });
        Json::parse(body).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::run::RunSettings;

    fn rules(regex_patterns: &[&str]) -> VoteRules {
        let regex_patterns = regex_patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        VoteRules::compile(&RunSettings { regex_patterns, ..RunSettings::default() }).unwrap()
    }

    fn label(vote: TextVote, text: &str) -> Option<String> {
        vote.key(&rules(&[]), text, None).map(|key| key.label())
    }

    #[test]
    fn each_vote_reads_its_own_key() {
        let text = " Since 3 + 4 = 7, the answer is (B): \\boxed{1/2}. ";
        assert_eq!(label(TextVote::Exact, text).as_deref(), Some(text.trim()));
        assert_eq!(label(TextVote::Number, text).as_deref(), Some("0.5"));
        assert_eq!(label(TextVote::Answer, text).as_deref(), Some("0.5"));
        assert_eq!(label(TextVote::Choice, "the answer is (B)").as_deref(), Some("B"));
        assert_eq!(label(TextVote::Json, text), None);
        assert_eq!(label(TextVote::Json, r#"{"b": 1.0, "a": " x"}"#).as_deref(), Some(r#"{"a":"x","b":1}"#));
        assert_eq!(label(TextVote::Json, "Here:\n```json\n[1, 2]\n```\nDone.").as_deref(), Some("[1,2]"));
        assert_eq!(label(TextVote::Similarity, text), None);
        assert_eq!(label(TextVote::Exact, " \n"), None);
    }

    fn regex(patterns: &[&str], text: &str) -> Option<String> {
        TextVote::Regex.key(&rules(patterns), text, None).map(|key| key.label())
    }

    #[test]
    fn a_pattern_gives_its_first_group_or_its_whole_match() {
        assert_eq!(regex(&[r"answer:\s*(\w+)"], "ANSWER:  yes").as_deref(), Some("yes"));
        assert_eq!(regex(&[r"\d+"], "a 12 b 34").as_deref(), Some("12"));
        assert_eq!(regex(&["<a>(.*)</a>"], "<A>two\nlines </a>").as_deref(), Some("two\nlines"));
        assert_eq!(regex(&[r"x(y)?z"], "xz").as_deref(), Some("xz"));
        assert_eq!(regex(&[r"(?<=\$)\d+"], "costs $15").as_deref(), Some("15"));
        assert_eq!(regex(&[r"(\w)\1"], "abccd").as_deref(), Some("c"));
    }

    #[test]
    fn several_patterns_make_one_slot_each_and_none_at_all_abstains() {
        assert_eq!(regex(&["a(.)", "b(.)"], "a1 b2").as_deref(), Some(r#"["1","2"]"#));
        assert_eq!(regex(&["a(.)", "b(.)"], "b2").as_deref(), Some(r#"[null,"2"]"#));
        assert_eq!(regex(&["a(.)", "b(.)"], "nothing"), None);
    }

    #[test]
    fn a_pattern_that_backtracks_without_end_counts_as_unmatched() {
        assert_eq!(regex(&[r"(?=(a+)+\1$)b"], &"a".repeat(100_000)), None);
    }
}
