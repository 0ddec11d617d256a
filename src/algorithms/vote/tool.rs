//! How tool calls are compared.

use std::collections::BTreeMap;

use super::key::{Key, unwrapped};
use super::rules::VoteRules;
use crate::answer::Json;
use crate::completion::{CallKind, ToolCall};
use crate::config::run::ToolVote;

/// The vote of a candidate that makes these calls; `arguments` are theirs, parsed, in the same order. The input of a
/// custom tool is text, which no valid arguments are.
///
/// The order of parallel calls matters except in `tool_set`, which also counts a call made twice once.
pub(super) fn key(rules: &VoteRules, calls: &[ToolCall], mut arguments: Vec<Json>) -> Key {
    arguments.iter_mut().for_each(|arguments| rules.comparable(arguments));
    let names = || calls.iter().map(|call| Json::Text(call.name.clone()));
    match rules.tool_vote {
        ToolVote::ToolName => Key::single(unwrapped(&Json::List(names().collect()))),
        ToolVote::ToolArgs => Key::single(unwrapped(&Json::List(arguments))),
        ToolVote::ToolHierarchical => {
            let first = Json::List(names().collect()).to_string();
            let second: Vec<String> = arguments.iter().map(Json::to_string).collect();
            let fields = Json::List(calls.iter().zip(arguments).map(named_call).collect());
            Key { levels: vec![first, second.join(",")], fields: Some(fields) }
        }
        ToolVote::ToolSet => {
            let mut set: Vec<Json> = calls.iter().zip(arguments).map(named_call).collect();
            set.sort();
            set.dedup();
            Key::single(unwrapped(&Json::List(set)))
        }
    }
}

fn named_call((call, arguments): (&ToolCall, Json)) -> Json {
    let read_as = match call.kind {
        CallKind::Function => "arguments",
        CallKind::Custom => "input",
    };
    Json::Object(BTreeMap::from([("name".to_owned(), Json::Text(call.name.clone())), (read_as.to_owned(), arguments)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::run::RunSettings;

    fn label(tool_vote: ToolVote, calls: &[(&str, &str)]) -> String {
        let rules = VoteRules::compile(&RunSettings { tool_vote, ..RunSettings::default() }).unwrap();
        let arguments = calls.iter().map(|(_, arguments)| Json::parse(arguments).unwrap()).collect();
        let calls: Vec<ToolCall> =
            calls.iter().map(|&(name, arguments)| ToolCall::function("x", name, arguments)).collect();
        key(&rules, &calls, arguments).label()
    }

    const PARALLEL: [(&str, &str); 2] = [("g", r#"{"b":2.0,"a":" x "}"#), ("f", "{}")];

    #[test]
    fn each_vote_looks_at_its_own_part_of_a_call() {
        assert_eq!(label(ToolVote::ToolName, &PARALLEL), r#"["g","f"]"#);
        assert_eq!(label(ToolVote::ToolArgs, &PARALLEL), r#"[{"a":"x","b":2},{}]"#);
        assert_eq!(
            label(ToolVote::ToolHierarchical, &PARALLEL),
            r#"[{"arguments":{"a":"x","b":2},"name":"g"},{"arguments":{},"name":"f"}]"#
        );
    }

    #[test]
    fn a_single_call_is_labelled_without_a_list() {
        assert_eq!(label(ToolVote::ToolName, &PARALLEL[1..]), r#""f""#);
        assert_eq!(label(ToolVote::ToolArgs, &PARALLEL[1..]), "{}");
        assert_eq!(label(ToolVote::ToolHierarchical, &PARALLEL[1..]), r#"{"arguments":{},"name":"f"}"#);
    }

    #[test]
    fn one_list_of_arguments_is_not_two_calls() {
        let one = label(ToolVote::ToolArgs, &[("f", "[1,2]")]);
        assert_ne!(one, label(ToolVote::ToolArgs, &[("f", "1"), ("f", "2")]));
    }

    #[test]
    fn calls_differ_by_what_their_arguments_mean() {
        let args = |arguments: &str| label(ToolVote::ToolArgs, &[("f", arguments)]);
        assert_eq!(args(r#"{"city":"Paris ","n":1.0}"#), args(r#"{"n":1,"city":"Paris"}"#));
        for (one, other) in [
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
            (r#"{"a":"1"}"#, r#"{"a":1}"#),
            (r#"{"a":true}"#, r#"{"a":1}"#),
            (r#"{"city":"Paris"}"#, r#"{"city":"paris"}"#),
        ] {
            assert_ne!(args(one), args(other), "{one} and {other}");
        }
        // Calls without a name in common are never one class, whatever their arguments.
        for vote in [ToolVote::ToolName, ToolVote::ToolHierarchical, ToolVote::ToolSet] {
            assert_ne!(label(vote, &[("f", "{}")]), label(vote, &[("g", "{}")]));
        }
    }

    #[test]
    fn a_set_of_calls_has_neither_order_nor_repetition() {
        let [g, f] = PARALLEL;
        assert_eq!(label(ToolVote::ToolSet, &[g, f]), label(ToolVote::ToolSet, &[f, g, f]));
        assert_ne!(label(ToolVote::ToolSet, &[g]), label(ToolVote::ToolSet, &[f]));
        assert_ne!(label(ToolVote::ToolHierarchical, &[g, f]), label(ToolVote::ToolHierarchical, &[f, g]));
    }
}
