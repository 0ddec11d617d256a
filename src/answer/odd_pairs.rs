//! Pairs of answers that a reader would try by hand: which are the same, and which are not.

use super::{Json, answer_class, choice, extract, number_class};

fn class(text: &str) -> String {
    answer_class(text).unwrap_or_else(|| panic!("{text} has a class"))
}

#[test]
fn one_answer_is_one_class() {
    for (one, other) in [
        ("1,000", "1000"),
        ("1 000", "1000"),
        ("1e3", "1000"),
        ("10^3", "1000"),
        ("10³", "1000"),
        ("10⁻¹", "0.1"),
        ("5 m²", "5"),
        ("x¹⁰", "x^{10}"),
        ("10^{3}", "1000"),
        ("2^{10}", "1024"),
        ("1.000", "1"),
        ("5 million", "5,000,000"),
        ("1.5 thousand", "1500"),
        ("3 dozen eggs", "36"),
        ("\\$5", "5 dollars"),
        ("$5", "5"),
        ("5€", "5"),
        ("\\frac12", "0.5"),
        ("-\\frac{1}{2}", "-0.5"),
        ("−½", "-0.5"),
        ("2\\frac{1}{2}", "2.5"),
        ("2½", "2.5"),
        (".5", "0.5"),
        ("+5", "5"),
        ("5.", "5"),
        ("５", "5"),
        ("−５．５", "-5.5"),
        ("٤٢", "42"),
        ("42\u{200b}", "42"),
        ("1\u{a0}000", "1000"),
        ("- 5", "-5"),
        ("negative 5", "-5"),
        ("20°C", "20"),
        ("x = 5", "5"),
        ("2 + 3 = 5", "5"),
        ("Total = 5", "5"),
        ("50％", "50%"),
        ("50 percent", "50\\%"),
        ("-0", "0"),
        ("007", "7"),
        ("(1, 2)", "(1,2)"),
        ("(1/2, 3)", "(0.5, 3)"),
        ("\\left(\\frac{1}{2}, 3\\right)", "(0.5,3)"),
        ("\\{1, 2\\}", "\\{2, 1\\}"),
        ("{1,2}", "\\{1, 2\\}"),
        ("\\text{A}", "A"),
        ("(A)", "A"),
        ("a", "A"),
        ("\\textbf{(A)}", "A"),
        ("Paris ", "paris"),
        ("*Paris*", "Paris!"),
        ("‘Paris’", "Paris"),
        ("New\u{a0}York", "New York"),
        ("2\\pi", "2π"),
        ("A∪B", "A \\cup B"),
        ("πr²", "\\pi r^2"),
        ("about 5", "5"),
        ("2 \\pi", "2\\pi"),
        ("\\frac{\\pi}{2}", "π/2"),
        ("\\frac{\\sqrt{3}}{2}", "√3/2"),
        ("\\sqrt{2}", "\\sqrt 2"),
        ("3\\sqrt{2}", "3√2"),
        ("x^{2}", "x²"),
        ("x_{1}", "x_1"),
        ("\\pm 5", "±5"),
        ("x \\leq 5", "x ≤ 5"),
        ("\\frac{x}{2}", "x/2"),
        ("(-\\infty, 2]", "(−∞,2]"),
        ("f(x) = x^2", "x^2"),
        ("5 (five)", "5"),
        ("3:4", "3 : 4"),
        ("True.", "true"),
        ("\\boxed{3}", "3"),
        ("5 km", "5"),
        ("5 m", "5"),
        ("N/A", "n/a"),
        ("X-ray", "x-ray"),
        ("O(n \\log n)", "O(n log(n))"),
        ("x - y", "-y + x"),
        ("\\frac{a}{b}", "a/b"),
        ("\\sqrt{8}", "2\\sqrt2"),
        ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt{2}}{2}"),
        ("\\frac{1}{\\sqrt3 - 1}", "(\\sqrt3 + 1)/2"),
        ("\\sqrt[3]{-8}", "-2"),
        ("0.\\overline{3}", "1/3"),
        ("1/3 \\approx 0.33", "1/3"),
        ("\\pi \\approx 3.14", "\\pi"),
        ("3\\sqrt{2} \\text{ cm}", "\\sqrt{18}"),
        ("4\\pi\\text{ cm}^2", "4π square feet"),
        ("y = 3x + 1", "1 + 3x"),
        ("F_n = 2^{n+1}", "2^{1+n}"),
        ("(x+1)^2", "x^2 + 2x + 1"),
        ("\\frac{2x}{4}", "x/2"),
        ("5 + -3x", "5 - 3x"),
        ("x + y = 5", "5 = y + x"),
        ("5 \\le x", "x >= 5"),
        ("1 < x \\le 2", "2 \\ge x > 1"),
        ("x \\ne 3", "x != 3"),
        ("A \\cup B", "B ∪ A"),
        ("(0,1) \\cup (2,3)", "(2,3)\\cup(0,1)"),
        ("\\{\\sqrt{4}, 1\\}", "\\{1, 2\\}"),
        ("\\emptyset", "\\{\\}"),
        ("\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}", "\\begin{bmatrix} 1 & 0 \\\\ 0 & 1 \\\\ \\end{bmatrix}"),
        ("2\\begin{pmatrix}1\\\\3\\end{pmatrix}", "\\begin{pmatrix}2\\\\6\\end{pmatrix}"),
        ("5!", "120"),
        ("28 pct", "28%"),
        ("\\log_2 x", "\\log_{2}(x)"),
        ("\\sin^2 x", "(\\sin x)^2"),
        ("32,\\! 349", "32349"),
    ] {
        assert_eq!(class(one), class(other), "{one} and {other}");
    }
}

#[test]
fn two_answers_are_two_classes() {
    for (one, other) in [
        ("x + y = 5", "5"),
        ("2x - 7y = 5", "5"),
        ("x + y = 5", "2x - 7y = 5"),
        ("x^2+y^2=25", "25"),
        ("2x = 10", "10"),
        ("xy = 6", "6"),
        ("\\sin x = 0.5", "0.5"),
        ("|x| = 5", "5"),
        ("x^2 = 4", "4"),
        ("3 quarters", "3"),
        ("2 thirds", "2"),
        ("5 tenths", "5"),
        ("5 millions", "5"),
        ("5 million", "5"),
        ("5k", "5"),
        ("1,050, 2", "1, 50, 2"),
        ("5 hundred thousand", "500"),
        ("5 ppm", "5"),
        ("5 below zero", "5"),
        ("5 (million)", "5"),
        ("5 (mod n)", "5"),
        ("5 feet six inches", "5"),
        ("1A", "1C"),
        ("1F", "1"),
        ("$5m$", "5"),
        ("0x10", "10"),
        ("101_2", "101"),
        ("5!", "5"),
        ("5x", "5"),
        ("5i", "5"),
        ("2\\pi", "2"),
        ("5e", "5"),
        ("50%", "0.5"),
        ("50%", "50"),
        ("50%", "50% of x"),
        ("5‰", "5"),
        ("50¢", "50"),
        ("1/3", "0.333"),
        ("1/3", "0.3333333333333333"),
        ("1.000", "1000"),
        ("3:4", "4"),
        ("3:4", "3/4"),
        ("(1,2)", "(2,1)"),
        ("[0,1)", "(0,1)"),
        ("[0,1)", "[0,1]"),
        ("(1,2)", "{1,2}"),
        ("1,2", "12"),
        ("1, 2", "2, 1"),
        ("1.2.3", "1.23"),
        ("5", "-5"),
        ("±5", "5"),
        ("\\Delta", "\\delta"),
        ("\\frac{1}{2}x", "\\frac{1}{2x}"),
        ("x^\\frac12", "x^1/2"),
        ("2\\frac{\\pi}{3}x", "2\\pi/3x"),
        ("(1\\frac12, 3)", "(11/2, 3)"),
        ("x^{12}", "x^12"),
        ("-2^2", "4"),
        ("(-2)^2", "-4"),
        ("2^-1", "2"),
        ("0^0", "1"),
        ("3 PM", "3 AM"),
        ("AB", "BA"),
        ("A and B", "A"),
        ("no", "not"),
        ("x > 5", "x < 5"),
        ("x \\ge 5", "x > 5"),
        ("New York", "NewYork"),
        ("1/0", "0"),
        ("9007199254740993", "9007199254740992"),
        ("5 or 6", "5"),
        ("5 \\text{ or } 6", "5"),
        ("x = 5 or x = 6", "6"),
        ("10^400", "10^401"),
        ("1,000,2", "1000,2"),
        ("\\{5\\}", "5"),
        ("\\cos 60^\\circ", "\\cos 60"),
        ("n!", "n"),
        ("cat", "act"),
        ("(bat, cat)", "(tab, act)"),
        ("AB", "BA"),
        ("O(n^2)", "O(n)"),
        ("x = 5, y = 3", "y = 5, x = 3"),
        ("x = 5, y = 3", "5, 3"),
        ("10 = 2x", "2x"),
        ("r + R", "2r"),
        ("\\sqrt{x^2}", "x"),
        ("\\sqrt{2}", "1.4142135"),
        ("2\\sqrt{2}", "\\sqrt{2}"),
        ("1/2x", "x/2"),
        ("5-10", "-5"),
        ("2-1", "1"),
        ("2024-01-05", "2018"),
        ("(5-10)", "-5"),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}"),
        ("x \\ge 5", "[5, \\infty)"),
        ("(0,1) \\cup (2,3)", "(0,1)"),
        ("2^x", "x^2"),
        ("\\log_2 x", "\\log_3 x"),
        ("\\sin x", "\\cos x"),
        ("3 \\pm 2", "3 + 2"),
        ("100, 200", "100,200"),
        ("1, 200", "1,200"),
        ("3 hundredths", "300"),
        ("\\sqrt{2x}", "\\sqrt2x"),
    ] {
        assert_ne!(class(one), class(other), "{one} and {other}");
    }
}

#[test]
fn texts_vote_alike_exactly_where_they_answer_alike() {
    let vote = |text: &str| extract(text).and_then(answer_class);
    for (one, other) in [
        ("The answer is 42.", "\\boxed{42}"),
        ("\\boxed{\\boxed{3}}", "so \\boxed{3}."),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("It took 5 months.", "5"),
        ("It rose by 5 width units.", "5"),
        ("It costs 5 million.", "\\boxed{5000000}"),
        ("That is 2 1/2 cups", "2.5"),
        ("We need 2½ cups", "2.5"),
        ("$$x = 5$$", "5"),
        ("Answer: Paris", "\\boxed{\\text{Paris}}"),
        ("The answer isn't 7, the answer is 5.", "5"),
        ("The answer is 5, not 7. The answer isn't clear", "\\boxed{5, not 7}"),
        ("The ratio comes to 3:4", "Answer: 3:4"),
        ("\\boxed{x = 5}", "\\boxed{5}"),
    ] {
        assert!(
            vote(one).is_some() && vote(one) == vote(other),
            "{one} and {other}: {:?} and {:?}",
            vote(one),
            vote(other)
        );
    }
    for (one, other) in [
        ("\\boxed{x + y = 5}", "\\boxed{5}"),
        ("We meet at 3:45", "We meet at 2:45"),
        ("It is 50 percent.", "50"),
        ("That makes 3 quarters.", "3"),
        ("It costs 5k.", "5"),
        ("The answer is $5$ or $6$", "5"),
        ("5 million", "5"),
        ("2 1/2", "1/2"),
        ("on 1/2/2024", "on 3/2/2024"),
        ("\\boxed{A, B}", "\\boxed{A}"),
        ("\\boxed{-5}", "\\boxed{5}"),
        ("x = - 5", "x = 5"),
    ] {
        assert_ne!(vote(one), vote(other), "{one} and {other}");
    }
}

#[test]
fn json_and_calls_are_compared_by_meaning() {
    let canonical = |text: &str| {
        let mut json = Json::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        json.trim_strings();
        json.to_string()
    };
    for (one, other) in [
        (r#"{"a":1.0}"#, r#"{"a":1}"#),
        (r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1e0 }"#),
        (r#"{"a":"x "}"#, r#"{"a":"x"}"#),
        ("-0", "0.0"),
        (r#""\u00e9""#, "\"é\""),
        (r#""\/""#, r#""/""#),
        ("1e2", "100"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ("[1, 2]", "[1.0,2.0]"),
    ] {
        assert_eq!(canonical(one), canonical(other), "{one} and {other}");
    }
    for (one, other) in [
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        ("true", "1"),
        ("[1,2]", "[2,1]"),
        ("[1]", "1"),
        ("0", "false"),
        ("null", r#""null""#),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.10000000000000001"),
        (r#"{"a":"X"}"#, r#"{"a":"x"}"#),
        (r#"{"a":{}}"#, r#"{"a":[]}"#),
        (r#""""#, "null"),
        (r#"{"A":1}"#, r#"{"a":1}"#),
        (r#""a b""#, r#""a  b""#),
        (r#""[1]""#, "[1]"),
    ] {
        assert_ne!(canonical(one), canonical(other), "{one} and {other}");
    }
}

#[test]
fn last_numbers_are_compared_by_value() {
    let class = |text: &str| number_class(text).unwrap_or_else(|| panic!("{text} has a number"));
    for (one, other) in [
        ("2 1/2 cups", "2.5"),
        ("it is 2½", "2.5"),
        ("2\\frac{1}{2}", "2.5"),
        ("x = - 5", "-5"),
        ("negative 5", "-5"),
        ("5 million", "5000000"),
        ("10 - 5", "5"),
        ("5 m^2", "5 m²"),
        ("10^3", "1000"),
        ("(1,000)", "1000"),
        ("−1.5e3", "-1500"),
        ("$-\\frac12$", "-0.5"),
        ("\\boxed{-5}", "-5"),
        ("-$30", "-30"),
    ] {
        assert_eq!(class(one), class(other), "{one} and {other}");
    }
    for (one, other) in
        [("1,000", "1.000"), ("–5", "5"), ("1/2", "2"), ("1e3", "3"), ("0.5", "5"), ("5 thousand", "5 million")]
    {
        assert_ne!(class(one), class(other), "{one} and {other}");
    }
}

#[test]
fn hostile_repetition_neither_overflows_the_stack_nor_the_clock() {
    for unit in [
        "\\frac{",
        "dozen ",
        "=",
        "(",
        "x=",
        "\\",
        "{",
        "^{",
        "½",
        "1 1/2",
        "5 million ",
        "answer is",
        "A and ",
        "\\{,",
        "- ",
        "2^2",
        "1:",
        "\\frac{1}{2",
        "negative ",
        "=-(",
        "about ",
        "minus ",
        "_{1",
        "(1",
        " (",
        ")",
        "⁻",
        "'",
        "(x",
    ] {
        let hostile = unit.repeat(40_000 / unit.len());
        for text in [hostile.clone(), format!("5 {hostile}"), format!("\\boxed{{{hostile}}}")] {
            let _ = extract(&text).map(answer_class);
            let _ = (answer_class(&text), number_class(&text), choice(&text));
        }
    }
}
