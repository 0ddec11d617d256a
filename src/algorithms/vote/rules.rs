//! What of a candidate is compared, compiled once for a configuration.

use fancy_regex::{Regex, RegexBuilder};

use crate::answer::Json;
use crate::config::run::{RunSettings, ToolVote, VoteOn};

/// Backtracking steps that one search may take before the pattern counts as unmatched.
const MATCH_BUDGET: usize = 250_000;

/// Instructions that one compiled pattern may have; subroutine calls could otherwise grow it without bound.
const MAX_PATTERN_INSTRUCTIONS: usize = 100_000;

/// The rules of one configuration's votes.
#[derive(Debug, Clone)]
pub struct VoteRules {
    pub tool_vote: ToolVote,
    pub vote_on: VoteOn,
    exclude: Vec<ExcludedPath>,
    patterns: Vec<Regex>,
}

/// A setting that no vote can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// The field at fault, as `/configure` names it.
    pub param: &'static str,
    /// What is wrong and what to change; lower case, no full stop.
    pub message: String,
}

impl VoteRules {
    /// Compiles the patterns and the paths of excluded arguments.
    ///
    /// # Errors
    ///
    /// Names `regex_patterns` or `exclude_args`, the index of the element at fault, and what to change.
    pub fn compile(settings: &RunSettings) -> Result<Self, RuleError> {
        let patterns =
            settings.regex_patterns.iter().enumerate().map(|(index, pattern)| compile_pattern(index, pattern));
        let exclude = settings.exclude_args.iter().enumerate().map(|(index, path)| ExcludedPath::parse(index, path));
        Ok(Self {
            tool_vote: settings.tool_vote,
            vote_on: settings.vote_on,
            exclude: exclude.collect::<Result<_, _>>()?,
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn patterns(&self) -> &[Regex] {
        &self.patterns
    }

    /// Brings arguments into the form that is compared: excluded names removed, strings trimmed.
    pub(super) fn comparable(&self, arguments: &mut Json) {
        for path in &self.exclude {
            remove(arguments, &path.steps);
            if let (Some(name), Json::Object(fields)) = (&path.literal, &mut *arguments) {
                fields.remove(name);
            }
        }
        arguments.trim_strings();
    }
}

fn compile_pattern(index: usize, pattern: &str) -> Result<Regex, RuleError> {
    let compiled = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .dot_matches_new_line(true)
        .backtrack_limit(MATCH_BUDGET)
        .max_prog_size(MAX_PATTERN_INSTRUCTIONS)
        .build();
    compiled.map_err(|error| RuleError {
        param: "regex_patterns",
        message: format!("regex_patterns[{index}] is not a regular expression, correct it: {error}"),
    })
}

/// A path to arguments that the vote leaves out.
#[derive(Debug, Clone)]
struct ExcludedPath {
    steps: Vec<Step>,
    /// The whole text, where it holds a point: an argument may itself be named so.
    literal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    /// `**`: any number of levels.
    AnyDepth,
}

impl ExcludedPath {
    fn parse(index: usize, path: &str) -> Result<Self, RuleError> {
        let refuse = |why: &str| {
            let message = format!("exclude_args[{index}] is `{path}`: {why}");
            Err(RuleError { param: "exclude_args", message })
        };
        if path.is_empty() {
            return refuse("name an argument, a path such as `meta.ts`, or `**.ts` for any depth");
        }
        let steps: Vec<Step> = path
            .split('.')
            .map(|name| if name == "**" { Step::AnyDepth } else { Step::Name(name.to_owned()) })
            .collect();
        if steps.contains(&Step::Name(String::new())) {
            return refuse("a name between two points is empty, write each name once");
        }
        if steps.contains(&Step::Name("*".to_owned())) {
            return refuse("`*` is no wildcard here, write `**` for any depth");
        }
        if steps.iter().filter(|step| **step == Step::AnyDepth).count() > 1 {
            return refuse("`**` may stand once in a path");
        }
        if steps.last() == Some(&Step::AnyDepth) {
            return refuse("`**` needs a name after it; to leave out all arguments, set tool_vote to `tool_name`");
        }
        let literal = (steps.len() > 1).then(|| path.to_owned());
        Ok(Self { steps, literal })
    }
}

/// Removes what the path leads to. Lists are passed through: a path names the fields of their elements.
fn remove(json: &mut Json, steps: &[Step]) {
    match json {
        Json::List(items) => items.iter_mut().for_each(|item| remove(item, steps)),
        Json::Object(fields) => match steps {
            [] => {}
            [Step::Name(name)] => {
                fields.remove(name);
            }
            [Step::Name(name), rest @ ..] => {
                if let Some(inner) = fields.get_mut(name) {
                    remove(inner, rest);
                }
            }
            [Step::AnyDepth, rest @ ..] => {
                fields.values_mut().for_each(|inner| remove(inner, steps));
                remove(json, rest);
            }
        },
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(exclude_args: &[&str], regex_patterns: &[&str]) -> Result<VoteRules, RuleError> {
        VoteRules::compile(&RunSettings {
            exclude_args: exclude_args.iter().map(|&path| path.to_owned()).collect(),
            regex_patterns: regex_patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..RunSettings::default()
        })
    }

    fn after(exclude: &[&str], arguments: &str) -> String {
        let mut json = Json::parse(arguments).unwrap();
        compile(exclude, &[]).unwrap().comparable(&mut json);
        json.to_string()
    }

    #[test]
    fn excluded_arguments_are_removed_where_their_path_says() {
        let arguments = r#"{"ts":1,"meta":{"ts":2,"k":" v "},"list":[{"ts":3},[{"ts":4,"k":5}]]}"#;
        assert_eq!(after(&["ts"], arguments), r#"{"list":[{"ts":3},[{"k":5,"ts":4}]],"meta":{"k":"v","ts":2}}"#);
        assert_eq!(after(&["meta.ts"], arguments), r#"{"list":[{"ts":3},[{"k":5,"ts":4}]],"meta":{"k":"v"},"ts":1}"#);
        assert_eq!(after(&["**.ts"], arguments), r#"{"list":[{},[{"k":5}]],"meta":{"k":"v"}}"#);
        assert_eq!(after(&["list.ts"], arguments), r#"{"list":[{},[{"k":5}]],"meta":{"k":"v","ts":2},"ts":1}"#);
        assert_eq!(after(&["meta"], arguments), r#"{"list":[{"ts":3},[{"k":5,"ts":4}]],"ts":1}"#);
        assert_eq!(after(&["absent", "meta.absent.ts"], r#"{"meta":1}"#), r#"{"meta":1}"#);
        assert_eq!(after(&["**.a.b"], r#"{"x":{"a":{"b":1,"c":2}},"a":{"b":3}}"#), r#"{"a":{},"x":{"a":{"c":2}}}"#);
        assert_eq!(after(&["meta.ts"], r#"{"meta.ts":1,"a":2}"#), r#"{"a":2}"#);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused_with_its_index() {
        for path in ["", "a..b", ".a", "a.", "**", "a.**", "*", "a.*.b", "**.a.**.b"] {
            let error = compile(&["fine", path], &[]).unwrap_err();
            assert_eq!(error.param, "exclude_args");
            assert!(error.message.starts_with("exclude_args[1] is"), "{}", error.message);
        }
    }

    #[test]
    fn a_broken_pattern_is_refused_with_its_index() {
        let error = compile(&[], &["fine", "(open"]).unwrap_err();
        assert_eq!(error.param, "regex_patterns");
        assert!(error.message.starts_with("regex_patterns[1] is not a regular expression"), "{}", error.message);
        assert!(compile(&[], &[r"(?<=a)b", r"(\w)\1"]).is_ok());
    }
}
