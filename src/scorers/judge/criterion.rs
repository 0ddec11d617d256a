//! What candidates are judged by, in words for the judge.

/// The text of a criterion: of a named one ours, else the client's own.
pub(super) fn text(criterion: &str) -> &str {
    match criterion {
        "overall_quality" => OVERALL_QUALITY,
        "multi_step_tool_judge" => MULTI_STEP_TOOL_JUDGE,
        "correctness" => CORRECTNESS,
        own => own,
    }
}

const OVERALL_QUALITY: &str = "\
How well the candidate serves whoever asked, all in all:
- accuracy: what it states is true, and what it does not know it does not claim;
- completeness: every part of the request is dealt with, at the length that it needs and no longer;
- clarity: it can be followed at first reading, and its form suits its content;
- depth: it goes to the reasons where the request calls for them;
- tone: it speaks as the situation asks for.
A grave error of fact outweighs any merit of style.";

const MULTI_STEP_TOOL_JUDGE: &str = "\
Whether the candidate is the best next step of a workflow that is carried out with tools. Read from the conversation \
what has been asked, what has been done, and what its results were. Then consider:
- stage: the step follows from where the workflow stands; nothing that it depends on is missing, and it neither repeats \
what is done nor skips ahead;
- choice: it calls the tool made for this step, or answers in words exactly when no call is needed any more, or when \
something must be asked first;
- arguments: they fit the tool's schema, are complete, and hold values that come from the conversation and are not \
invented;
- economy: no call is redundant; calls that do not depend on each other may be made together.
A call with wrong arguments is worse than a question, and a claim to have done what was not done is worst of all.";

const CORRECTNESS: &str = "\
Whether the candidate's final answer is right. Work the task out for yourself before you compare. Only the correctness \
of the result and of the reasoning that leads to it counts; style, length and politeness do not. A right answer that is \
reached by a wrong argument is worth less than one that is reached by a right argument, and more than a wrong answer.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fields::JUDGE_CRITERIA;

    #[test]
    fn every_named_criterion_has_a_text_and_free_text_stands_as_it_is() {
        for name in JUDGE_CRITERIA {
            assert!(text(name).len() > 100, "{name}");
        }
        assert_eq!(text("is it short and polite"), "is it short and polite");
    }
}
