//! What grading accepts, what it refuses, and where it looks.

use super::{Rule, Verdict, grade};

fn accepted(reference: &str, response: &str) -> Option<Rule> {
    match grade(reference, response) {
        Verdict::Equal { rule, .. } => Some(rule),
        Verdict::Different { .. } | Verdict::Unparsed => None,
    }
}

#[test]
fn one_answer_is_accepted_for_another_by_the_strictest_rule() {
    for (reference, response, rule) in [
        ("5", "The answer is 5.", Rule::SameClass),
        ("1/2", "\\boxed{0.5}", Rule::SameClass),
        ("Paris", "Final answer: paris", Rule::SameClass),
        ("(B)", "\\boxed{\\text{B}}", Rule::SameClass),
        ("B", "I would choose option B because it fits.", Rule::SameClass),
        ("50", "It is 50\\%.", Rule::PercentSign),
        ("0.5", "It is 50%.", Rule::PercentAsFraction),
        ("1/3", "0.33333333", Rule::Numeric),
        ("1", "$\\sin^2 x + \\cos^2 x$", Rule::Numeric),
        ("1+\\sqrt{2}", "\\sqrt{3+2\\sqrt{2}}", Rule::Numeric),
        ("(1/3, 2)", "(0.33333333, 2)", Rule::Numeric),
        ("\\begin{pmatrix}1/3&0\\end{pmatrix}", "\\begin{bmatrix}0.33333333&0\\end{bmatrix}", Rule::Numeric),
        ("(x, y) = (1, 2)", "(1, 2)", Rule::NamedValue),
        ("x = 1, y = 2", "1, 2", Rule::NamedValue),
        ("x + y = 1", "2y = 2 - 2x", Rule::EquivalentEquation),
        ("x > 2", "(2, \\infty)", Rule::InequalityAsInterval),
        ("(-\\infty, 2]", "x \\le 2", Rule::InequalityAsInterval),
        ("x \\in \\{1, 2\\}", "\\{2, 1\\}", Rule::InequalityAsInterval),
        ("\\{1, 2\\}", "1 and 2", Rule::ListBrackets),
        ("3, 1, 2", "\\boxed{1}, \\boxed{2} and \\boxed{3}", Rule::AnyOrder),
        ("\\pm 3", "3, -3", Rule::ListBrackets),
        ("y = 2, x = 1", "x = 1, y = 2", Rule::AnyOrder),
        ("3.5", "3,5", Rule::DecimalComma),
    ] {
        assert_eq!(
            accepted(reference, response),
            Some(rule),
            "{reference} and {response}: {:?}",
            grade(reference, response)
        );
    }
}

#[test]
fn another_answer_is_refused() {
    for (reference, response) in [
        ("28", "0.28"),
        ("0.28", "28"),
        ("28\\%", "2800"),
        ("28\\%", "0.0028"),
        ("28\\%", "29\\%"),
        ("5", "-5"),
        ("9007199254740993", "9007199254740992"),
        ("1000001", "1000000"),
        ("1/3", "0.333"),
        ("x + 1", "x + 2"),
        ("x + 1", "y + 1"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2)", "2, 1"),
        ("(1, 2)", "\\{1, 2\\}"),
        ("[0, 1)", "(0, 1)"),
        ("x < 2", "(-\\infty, 2]"),
        ("x < 2", "x > 2"),
        ("x = 1, y = 2", "x = 2, y = 1"),
        ("x = 1, y = 2", "2, 1"),
        ("1, 2, 3", "1, 2"),
        ("1, 2", "1, 2, 3"),
        ("1, 1, 2", "1, 2, 2, 3"),
        ("\\pm 3", "3"),
        ("x + y = 5", "5"),
        ("2x + z = 1", "1"),
        ("|x| = 5", "5"),
        ("1,220", "1.22"),
        ("Paris", "Lyon"),
        ("\\text{no solution}", "0"),
        ("\\sqrt{2}", "2"),
        ("5", ""),
        ("", "5"),
        ("1", "\\boxed{1 \\text{ or } 2}"),
        ("5", "The answer is not 5."),
        ("B", "The answer is C, not B."),
        ("B", "A, B"),
        ("6", "\\boxed{\\text{no solution}} since 5 < 6"),
        ("5", "\\int_0^1 x^5"),
        ("\\int_0^1 x^5", "5"),
        ("5", "$\\oint 5$"),
    ] {
        assert_eq!(accepted(reference, response), None, "{reference} and {response}: {:?}", grade(reference, response));
    }
}

#[test]
fn only_the_first_place_counts_in_the_documented_order() {
    for (response, extracted) in [
        ("\\boxed{1} so the final answer is 2. I hope it is correct. The final answer is 3.", "2"),
        ("\\boxed{1} so the final answer is 2.", "2"),
        ("The answer is 3, that is \\boxed{1}.", "1"),
        ("\\boxed{1} no no no \\boxed{2}", "2"),
        ("\\boxed{1}, \\boxed{2}", "1, 2"),
        ("the answer is 4\n#### 5", "4"),
        ("we find\n#### 5", "5"),
        ("so $x+1$ it is, in 3 steps", "3"),
        ("in 3 steps: $x+1$", "x+1"),
        ("The final answer is in the box: \\boxed{7}", "7"),
        ("Final Answer: it took Jane 3 hours. I hope it is correct.", "3"),
        ("\\\\boxed{7}", "7"),
        ("The answer is as follows:\n$$x = 8$$", "x = 8"),
        ("\\boxed{\\text{none}} of 12", "\\text{none}"),
    ] {
        let verdict = grade("99", response);
        assert_eq!(verdict, Verdict::Different { extracted: extracted.to_owned() }, "{response}");
    }
}

#[test]
fn a_text_without_an_answer_is_unparsed() {
    for (reference, response) in [("5", "I do not know."), ("5", ""), ("5", "   "), ("", "5")] {
        assert_eq!(grade(reference, response), Verdict::Unparsed, "{reference} and {response}");
    }
    assert_eq!(grade("5", "\\boxed{\\text{none}}").name(), "different");
}

#[test]
fn a_verdict_is_one_json_object() {
    let json = |reference, response| grade(reference, response).to_json().to_string();
    assert_eq!(json("1/2", "\\boxed{.5}"), r#"{"verdict":"equal","rule":"same_class","extracted":".5"}"#);
    assert_eq!(json("1/2", "1/3"), r#"{"verdict":"different","rule":null,"extracted":"1/3"}"#);
    assert_eq!(json("1/2", "?"), r#"{"verdict":"unparsed","rule":null,"extracted":null}"#);
}
