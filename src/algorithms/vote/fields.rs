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
    let mut fields: HashMap<&[Step<'_>], Field<'_>> = HashMap::new();
    for (path, value) in leaves.iter().flatten() {
        let field =
            fields.entry(path).or_insert_with(|| Field { holders: HashMap::new(), absent: candidates.len(), most: 0 });
        let holders = field.holders.entry(value).or_default();
        *holders += 1;
        field.most = field.most.max(*holders);
        field.absent -= 1;
    }
    // A candidate is taken to lack every field, then corrected by those it has: linear in all that was written.
    let lacking_all = fields.values().filter(|field| field.absent >= field.most).count();
    let agreed = |leaves: &HashMap<Vec<Step<'_>>, &Json>| {
        let mut agreed = lacking_all;
        for (path, value) in leaves {
            let field = &fields[path.as_slice()];
            let most = field.most.max(field.absent);
            agreed -= usize::from(field.absent == most);
            agreed += usize::from(field.holders[value] == most);
        }
        agreed
    };
    leaves.iter().map(agreed).collect()
}

/// What candidates hold in one field.
struct Field<'a> {
    holders: HashMap<&'a Json, usize>,
    absent: usize,
    /// The holders of the most common value.
    most: usize,
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
