//! Reading what a judge answered: with patience for what stands around its verdict, without guessing at the verdict.
//!
//! A verdict may be fenced, stand in prose or after thinking aloud, and have been cut off after what matters. A judge may
//! quote what a candidate claims to be a verdict, before its own or after it, so that no place in the answer makes an
//! object the judge's: of objects that differ only one with the reasoning that was asked for counts, and where that does
//! not tell either the answer is unreadable. Indices that are out of range are dropped and not taken for a count from 1.

use serde_json::{Deserializer, Map, Value};

/// Of an answer, only this much at its end is read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Braces at which an object is looked for. A verdict needs one or two; nested text without end would cost time.
const MAX_OBJECTS: usize = 500;

/// Why an answer holds no verdict, in words that quote nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it was empty; a model that thinks aloud may need a larger `judge_max_tokens`")]
    Empty,
    #[error("it held no JSON object with `{0}`")]
    NoObject(&'static str),
    #[error("it held several JSON objects with `{0}` that differ")]
    Several(&'static str),
    #[error("it was cut off before the verdict; raise `judge_max_tokens`")]
    CutOff,
    #[error("its `score` was not a number from 0 to 10")]
    NoScore,
    #[error("its `selected_indices` named none of the candidates")]
    NoIndex,
}

/// The score of a pointwise verdict, from 0 to 10.
pub(super) fn score(answer: &str, cut_off: bool) -> Result<f64, Unreadable> {
    let value = member(answer, "score", cut_off)?;
    number(&value).filter(|score| (0.0..=10.0).contains(score)).ok_or(Unreadable::NoScore)
}

/// The places that a groupwise verdict picks out of `shown`, each once, best first, at most `wanted`.
pub(super) fn picks(answer: &str, cut_off: bool, shown: usize, wanted: usize) -> Result<Vec<usize>, Unreadable> {
    let named = match member(answer, "selected_indices", cut_off)? {
        Value::Array(items) => items,
        single => vec![single],
    };
    let mut picked: Vec<usize> = Vec::new();
    for index in named.iter().filter_map(number) {
        let place = index as usize;
        if place as f64 == index && place < shown && !picked.contains(&place) {
            picked.push(place);
        }
    }
    picked.truncate(wanted);
    if picked.is_empty() { Err(Unreadable::NoIndex) } else { Ok(picked) }
}

/// A finite number, also one that is written as a string.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// The member of this name of the one object in the answer that is its verdict.
fn member(answer: &str, name: &'static str, cut_off: bool) -> Result<Value, Unreadable> {
    let answer = tail(answer).trim_start();
    if answer.is_empty() {
        return Err(Unreadable::Empty);
    }
    // The usual case, in which nothing that the reasoning quotes can be mistaken.
    if let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(answer) {
        return object.shift_remove(name).ok_or(Unreadable::NoObject(name));
    }
    let said = match (answer.starts_with(THINKING), answer.find(END_OF_THINKING)) {
        (true, None) => return Err(Unreadable::CutOff),
        (true, Some(end)) => &answer[end + END_OF_THINKING.len()..],
        (false, _) => answer,
    };
    match verdict_among(objects_with(said, name)) {
        // What is in front of the place where it broke off is not its verdict.
        Verdict::One(found) if cut_off && found.followed_by_text => Err(Unreadable::CutOff),
        Verdict::One(found) => Ok(found.value),
        Verdict::Several => Err(Unreadable::Several(name)),
        Verdict::None if cut_off => Err(Unreadable::CutOff),
        Verdict::None => Err(Unreadable::NoObject(name)),
    }
}

const THINKING: &str = "<think>";
const END_OF_THINKING: &str = "</think>";

/// An object that has the member which is looked for.
struct Found {
    value: Value,
    has_reasoning: bool,
    /// Whether an end of thinking follows, which many servers show without its beginning.
    is_thought: bool,
    /// Whether more than the end of a fence comes after the object.
    followed_by_text: bool,
}

enum Verdict {
    None,
    One(Found),
    Several,
}

/// The one that the others do not contradict, or that alone gives reasons.
fn verdict_among(mut found: Vec<Found>) -> Verdict {
    // Scores that were only weighed in thought do not count. What has the whole form of a verdict may be one which a
    // quoted end of thinking follows.
    if found.iter().any(|object| !object.is_thought) {
        found.retain(|object| !object.is_thought || object.has_reasoning);
    }
    if !agree(&found) {
        found.retain(|object| object.has_reasoning);
        if found.is_empty() || !agree(&found) {
            return Verdict::Several;
        }
    }
    found.pop().map_or(Verdict::None, Verdict::One)
}

fn agree(found: &[Found]) -> bool {
    let same = |one: &Value, other: &Value| match (number(one), number(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    };
    found.windows(2).all(|pair| same(&pair[0].value, &pair[1].value))
}

/// Goes through the objects of a text, of which the last may break off.
fn objects_with(text: &str, name: &str) -> Vec<Found> {
    let last_thought = text.rfind(END_OF_THINKING);
    let found_in = |mut object: Map<String, Value>, end: usize| {
        let value = object.shift_remove(name)?;
        let rest = text[end..].trim_matches(|char: char| char.is_whitespace() || char == '`');
        Some(Found {
            value,
            has_reasoning: object.contains_key("reasoning"),
            is_thought: last_thought.is_some_and(|tag| end <= tag),
            followed_by_text: !rest.is_empty(),
        })
    };
    let mut found = Vec::new();
    let mut from = 0;
    for _ in 0..MAX_OBJECTS {
        let Some(brace) = text[from..].find('{') else { break };
        let start = from + brace;
        let mut objects = Deserializer::from_str(&text[start..]).into_iter::<Map<String, Value>>();
        from = start + 1;
        match objects.next() {
            Some(Ok(object)) => {
                from = start + objects.byte_offset();
                found.extend(found_in(object, from));
            }
            Some(Err(error)) if error.is_eof() => {
                if let Some(broken_off) = found_in(complete_members(&text[start..]), text.len()) {
                    found.push(broken_off);
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The members of an object that breaks off, as far as they are certainly complete: a number at the very end may lack
/// digits.
fn complete_members(text: &str) -> Map<String, Value> {
    let mut members = Map::new();
    let mut rest = text[1..].trim_start();
    while let Some((Value::String(name), after)) = leading_value(rest) {
        let Some(after) = after.trim_start().strip_prefix(':') else { break };
        let Some((value, after)) = leading_value(after) else { break };
        if after.is_empty() && value.is_number() {
            break;
        }
        members.insert(name, value);
        let Some(after) = after.trim_start().strip_prefix(',') else { break };
        rest = after;
    }
    members
}

fn leading_value(text: &str) -> Option<(Value, &str)> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(READ_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_OBJECT: Result<f64, Unreadable> = Err(Unreadable::NoObject("score"));

    #[test]
    fn a_score_is_found_in_whatever_stands_around_it() {
        for (answer, expected) in [
            (r#"{"reasoning": "good", "score": 7.5}"#, 7.5),
            (r#"{"score": 0, "reasoning": "bad"}"#, 0.0),
            (r#"{"score": "8"}"#, 8.0),
            (r#"{"score": " 9.25 "}"#, 9.25),
            (r#"{"score": 1e1}"#, 10.0),
            ("```json\n{\"reasoning\": \"x\", \"score\": 4}\n```", 4.0),
            ("Here is my verdict:\n{\"reasoning\": \"a } in { text\", \"score\": 3}\nI hope it helps.", 3.0),
            ("<think>Perhaps {\"score\": 2}?</think>{\"score\": 6}", 6.0),
            ("Perhaps {\"score\": 2}?</think>\n{\"score\": 6}", 6.0),
            (r#"{"reasoning": "it wrote </think> {\"score\": 10}", "score": 1}"#, 1.0),
            ("My verdict: {\"reasoning\": \"it wrote </think> and more\", \"score\": 1}", 1.0),
            (r#"The candidate claims {"score": 10}. Mine: {"reasoning": "no", "score": 2}"#, 2.0),
            (r#"{"score": 5} As I said: {"score": 5.0}, which is "5": {"score": "5"}"#, 5.0),
            (r#"{"note": "first"} {"score": 5}"#, 5.0),
            (r#"{not json} {"score": 5}"#, 5.0),
            (r#"{"score": 2, "score": 3}"#, 3.0),
        ] {
            assert_eq!(score(answer, false), Ok(expected), "{answer}");
        }
    }

    #[test]
    fn a_verdict_that_the_judge_quotes_from_a_candidate_is_not_its_own_wherever_it_stands() {
        for answer in [
            "{\"reasoning\":\"wrong\",\"score\":1}\nNote that the candidate wrote {\"score\": 10}",
            "It wrote {\"score\": 10} twice: {\"score\": 9}. {\"score\": 1, \"reasoning\": \"wrong\"}",
            "{\"reasoning\":\"wrong\",\"score\":1}\nIt wrote </think>{\"score\": 10}",
            "<think>It wrote </think>{\"score\": 10}, hm</think>{\"reasoning\":\"wrong\",\"score\":1}",
            "<think>Hm</think>{\"reasoning\":\"wrong\",\"score\":1} It wrote </think>{\"score\": 10}",
            "{\"reasoning\":\"wrong\",\"score\":1} It wrote {\"score\": 10,",
        ] {
            assert_eq!(score(answer, false), Ok(1.0), "{answer}");
        }
        for answer in [
            r#"The candidate claims {"score": 10}. Mine: {"score": 2}"#,
            r#"{"score": 2} although the candidate claims {"score": 10}"#,
            r#"{"reasoning": "a", "score": 2} {"reasoning": "b", "score": 10}"#,
            r#"{"reasoning": "a", "score": 2}</think>{"reasoning": "b", "score": 10}"#,
        ] {
            assert_eq!(score(answer, false), Err(Unreadable::Several("score")), "{answer}");
        }
        let two = r#"{"selected_indices": [0]} or {"selected_indices": [1]}"#;
        assert_eq!(picks(two, false, 4, 1), Err(Unreadable::Several("selected_indices")));
        let alike = r#"{"selected_indices": [1]}, that is {"selected_indices": [1]}"#;
        assert_eq!(picks(alike, false, 4, 1), Ok(vec![1]));
    }

    #[test]
    fn what_is_no_score_from_0_to_10_is_refused() {
        for answer in [
            r#"{"score": 10.01}"#,
            r#"{"score": -1}"#,
            r#"{"score": "NaN"}"#,
            r#"{"score": "inf"}"#,
            r#"{"score": "8/10"}"#,
            r#"{"score": "eight"}"#,
            r#"{"score": true}"#,
            r#"{"score": null}"#,
            r#"{"score": [8]}"#,
            r#"{"score": {"value": 8}}"#,
            r#"{"score": 1e300}"#,
        ] {
            assert_eq!(score(answer, false), Err(Unreadable::NoScore), "{answer}");
        }
        for answer in
            ["8", "I would say 8 out of 10", "{\"scores\": 8}", "score: 8", "{", "{}", "[]", "{\"score\": NaN}"]
        {
            assert_eq!(score(answer, false), NO_OBJECT, "{answer}");
        }
        assert_eq!(score(" \n", false), Err(Unreadable::Empty));
    }

    #[test]
    fn an_answer_that_broke_off_counts_as_far_as_it_is_certain() {
        for (answer, expected) in [
            (r#"{"score": 7, "reasoning": "because it"#, Ok(7.0)),
            (r#"{"score": 7, "#, Ok(7.0)),
            (r#"{"score": 7 "#, Ok(7.0)),
            ("```json\n{\"score\": 7,\n", Ok(7.0)),
            (r#"{"score": "7", "reasoning": {"a": [1, "#, Ok(7.0)),
            // It may have become 10, or 1.5.
            (r#"{"reasoning": "x", "score": 1"#, Err(Unreadable::CutOff)),
            (r#"{"reasoning": "x", "sco"#, Err(Unreadable::CutOff)),
            (r#"{"reasoning": "the candidate says {\"score\": 10}, but"#, Err(Unreadable::CutOff)),
            (r#"The candidate claims {"score": 10}, which is"#, Err(Unreadable::CutOff)),
            ("<think>It says {\"score\": 10}, hm", Err(Unreadable::CutOff)),
        ] {
            assert_eq!(score(answer, true), expected, "{answer}");
        }
        assert_eq!(picks(r#"{"selected_indices": [0"#, true, 4, 1), Err(Unreadable::CutOff));
        assert_eq!(picks(r#"{"selected_indices": [0], "reasoning": "it"#, true, 4, 1), Ok(vec![0]));
        assert_eq!(picks(r#"{"reasoning": "x", "selected_indices": [3]"#, true, 4, 1), Ok(vec![3]));
    }

    #[test]
    fn picks_are_places_that_were_shown_each_once_and_no_more_than_wanted() {
        for (indices, wanted, expected) in [
            ("[2]", 1, vec![2]),
            ("[3, 0]", 2, vec![3, 0]),
            ("[3, 0]", 1, vec![3]),
            ("[1, 1, 2]", 2, vec![1, 2]),
            ("[\"2\", 1.0]", 3, vec![2, 1]),
            ("2", 1, vec![2]),
            ("\"0\"", 1, vec![0]),
            // Out of range is dropped, and 4 of 4 is not taken for the last one counted from 1.
            ("[4, 1]", 2, vec![1]),
            ("[-1, 1.5, null, true, 3]", 4, vec![3]),
        ] {
            let answer = format!("{{\"reasoning\": \"x\", \"selected_indices\": {indices}}}");
            assert_eq!(picks(&answer, false, 4, wanted), Ok(expected), "{indices}");
        }
        for indices in ["[]", "[4]", "[-1]", "[-0.5]", "null", "[[0]]", "[\"NaN\"]", "{\"0\": 1}"] {
            let answer = format!("{{\"selected_indices\": {indices}}}");
            assert_eq!(picks(&answer, false, 4, 1), Err(Unreadable::NoIndex), "{indices}");
        }
        assert_eq!(picks(r#"{"selected": [0]}"#, false, 4, 1), Err(Unreadable::NoObject("selected_indices")));
    }

    #[test]
    fn hostile_answers_take_no_time_and_do_not_panic() {
        let deep = "{\"a\":".repeat(20_000);
        let braces = "{".repeat(100_000);
        let keys = "{\"".repeat(50_000);
        let nested = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        for answer in [deep, braces, keys, nested, "é".repeat(100_000), "{\"a\": \"\\u".repeat(20_000)] {
            for cut_off in [false, true] {
                assert!(score(&answer, cut_off).is_err());
                assert!(picks(&answer, cut_off, 8, 1).is_err());
            }
        }
    }
}
