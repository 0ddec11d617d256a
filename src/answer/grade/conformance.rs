//! Grading held to other graders' tests and to its own documentation.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::answer_class;
use super::{Rule, Verdict, grade, math_string};

const DOCUMENTATION: &str = include_str!("../../../docs/answers.md");

/// Groups of which every row must be met.
const REQUIRED: [&str; 8] = [
    "test_number_extraction",
    "test_simple_fraction_notation",
    "test_percent_notation",
    "test_sets_handling",
    "test_set_rel_assymetry",
    "symbol",
    "test_string_extraction",
    "test_boxed",
];

/// The reference and the response of the one row in those groups that holds two different numbers equal.
const MISTAKE: (&str, &str) = ("$1 - \\frac{1}{\\mathrm{e}}$", "$1 + \\frac{1}{\\mathrm{e}}$");

#[derive(Deserialize)]
struct File<Row> {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Graded {
    group: String,
    gold: String,
    pred: String,
    expected: u8,
}

impl Graded {
    fn is_met(&self) -> bool {
        matches!(grade(&self.gold, &self.pred), Verdict::Equal { .. }) == (self.expected == 1)
    }
}

#[derive(Deserialize)]
struct Spelled {
    name: String,
    a: String,
    b: String,
    expected: u8,
}

/// The cells of the table in the documentation whose header begins with that cell.
fn table(first: &str) -> Vec<Vec<&'static str>> {
    let mut lines = DOCUMENTATION.lines().skip_while(|line| !line.starts_with(&format!("| {first} |")));
    assert!(lines.next().is_some(), "the documentation has a table of {first}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What a cell quotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(|quote| quote.replace("\\|", "|")).collect()
}

#[test]
fn the_string_rule_judges_as_the_math_benchmark_does() {
    let file: File<Spelled> =
        serde_json::from_str(include_str!("../../../tests/data/math_equivalence_strings.json")).expect("rows");
    assert_eq!(file.rows.len(), 16);
    for row in file.rows {
        assert_eq!(math_string::same(&row.a, &row.b), row.expected == 1, "{}: {} and {}", row.name, row.a, row.b);
    }
}

#[test]
fn the_rows_that_are_not_met_are_the_documented_ones() {
    let file: File<Graded> = serde_json::from_str(include_str!("../../../tests/data/math_grading.json")).expect("rows");
    let mut by_group: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut missed = BTreeSet::new();
    for (at, row) in file.rows.iter().enumerate() {
        let (met, all) = by_group.entry(&row.group).or_default();
        *all += 1;
        if row.is_met() {
            *met += 1;
        } else {
            missed.insert(at + 1);
        }
    }
    let documented: BTreeSet<usize> =
        table("row").iter().map(|cells| cells[0].parse().expect("a row's number")).collect();
    assert_eq!(missed, documented, "by group, met of all: {by_group:#?}");
    assert!((file.rows.len() - missed.len()) * 100 >= file.rows.len() * 95);
    for cells in table("row") {
        let row = &file.rows[cells[0].parse::<usize>().expect("a row's number") - 1];
        assert!(row.group.ends_with(&quoted(cells[1])[0]), "row {} is of {}", cells[0], row.group);
        assert_eq!(cells[4] == "accepted", row.expected == 1, "row {}", cells[0]);
    }
}

#[test]
fn the_required_groups_are_met_but_for_a_mistake_in_them() {
    let file: File<Graded> = serde_json::from_str(include_str!("../../../tests/data/math_grading.json")).expect("rows");
    for row in file.rows.iter().filter(|row| REQUIRED.iter().any(|group| row.group.contains(group))) {
        let mistake = (row.gold.as_str(), row.pred.as_str()) == MISTAKE;
        assert_eq!(row.is_met(), !mistake, "{}: {} and {}", row.group, row.gold, row.pred);
    }
}

#[test]
fn every_rule_accepts_what_the_documentation_says() {
    let rules = table("rule");
    let documented: Vec<String> = rules.iter().map(|cells| quoted(cells[0]).remove(0)).collect();
    assert_eq!(documented, Rule::ALL.map(Rule::name));
    for cells in rules {
        let (name, reference, response) = (&quoted(cells[0])[0], &quoted(cells[2])[0], &quoted(cells[3])[0]);
        let Verdict::Equal { rule, .. } = grade(reference, response) else { panic!("{name} accepts its example") };
        assert_eq!(rule.name(), name, "{reference} and {response}");
    }
}

#[test]
fn the_classes_in_the_documentation_are_classes() {
    for cells in table("one class") {
        let (one, other) = (quoted(cells[0]), quoted(cells[1]));
        let class = |answer: &str| answer_class(answer).unwrap_or_else(|| panic!("{answer} has a class"));
        for answer in &one {
            assert_eq!(class(answer), class(&one[0]), "{answer} and {}", one[0]);
        }
        for answer in &other {
            assert_ne!(class(answer), class(&one[0]), "{answer} and {}", one[0]);
        }
    }
}
