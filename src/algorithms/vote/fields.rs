//! The candidate that agrees most with the others field by field, for objects no majority of which are equal.
//!
//! It always picks a real candidate; an object spliced from the majorities of its fields might be one that no
//! candidate meant.

use std::collections::HashMap;

use crate::answer::Json;

/// For each candidate, in how many fields it holds the value that most candidates hold there. Where several
/// values of a field are held equally often, each of them counts; that a field is absent is a value too.
pub(super) fn agreement(candidates: &[&Json]) -> Vec<usize> {
    let leaves: Vec<HashMap<Vec<Step<'_>>, &Json>> = candidates.iter().map(|json| leaves(json)).collect();
    let mut fields: HashMap<&[Step<'_>], HashMap<Option<&Json>, usize>> = HashMap::new();
    for (path, value) in leaves.iter().flatten() {
        *fields.entry(path).or_default().entry(Some(value)).or_default() += 1;
    }
    for counts in fields.values_mut() {
        let present: usize = counts.values().sum();
        if present < candidates.len() {
            counts.insert(None, candidates.len() - present);
        }
    }
    let in_majority =
        |leaves: &HashMap<Vec<Step<'_>>, &Json>, path: &[Step<'_>], counts: &HashMap<Option<&Json>, usize>| {
            let held = leaves.get(path).copied();
            counts.values().max().is_some_and(|most| counts.get(&held) == Some(most))
        };
    leaves
        .iter()
        .map(|leaves| fields.iter().filter(|(path, counts)| in_majority(leaves, path, counts)).count())
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step<'a> {
    Name(&'a str),
    Position(usize),
}

/// The values at the end of every path through objects. Of lists only an outermost one is entered: it holds the
/// parallel calls; any other is one value.
fn leaves(json: &Json) -> HashMap<Vec<Step<'_>>, &Json> {
    let mut found = HashMap::new();
    match json {
        Json::List(items) if !items.is_empty() => {
            for (position, item) in items.iter().enumerate() {
                collect(item, &mut vec![Step::Position(position)], &mut found);
            }
        }
        other => collect(other, &mut Vec::new(), &mut found),
    }
    found
}

fn collect<'a>(json: &'a Json, path: &mut Vec<Step<'a>>, found: &mut HashMap<Vec<Step<'a>>, &'a Json>) {
    match json {
        Json::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(Step::Name(name));
                collect(value, path, found);
                path.pop();
            }
        }
        value => {
            found.insert(path.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreements(texts: &[&str]) -> Vec<usize> {
        let parsed: Vec<Json> = texts.iter().map(|text| Json::parse(text).unwrap()).collect();
        agreement(&parsed.iter().collect::<Vec<_>>())
    }

    #[test]
    fn fields_are_counted_one_by_one() {
        // Most often: a = 1 (three times), b = 2 (twice), c absent (twice).
        let texts = [r#"{"a":1,"b":9}"#, r#"{"a":1,"b":2,"c":5}"#, r#"{"a":7,"b":2}"#, r#"{"a":1,"b":4,"c":6}"#];
        assert_eq!(agreements(&texts), [2, 2, 2, 1]);
    }

    #[test]
    fn nested_objects_are_entered_and_inner_lists_are_not() {
        let texts = [r#"{"q":{"x":1,"y":[1]}}"#, r#"{"q":{"x":1,"y":[2]}}"#, r#"{"q":{"x":2,"y":[1]}}"#];
        assert_eq!(agreements(&texts), [2, 1, 1]);
    }

    #[test]
    fn values_that_are_no_objects_are_one_field() {
        assert_eq!(agreements(&["1", "2", "1.0"]), [1, 0, 1]);
        assert_eq!(agreements(&["{}", "{}"]), [1, 1]);
        assert_eq!(agreements(&[]), Vec::<usize>::new());
    }
}
