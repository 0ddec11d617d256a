//! How long hostile text keeps the reading of answers busy: the worst of a list of texts of 100 kB for each of its
//! functions, in milliseconds. `cargo bench --no-default-features --bench answers`

use std::hint::black_box;
use std::time::{Duration, Instant};

use itsd::answer::{answer_class, choice, extract, grade, number_class};

const TEXT_BYTES: usize = 100_000;

/// What the texts repeat: openings that never close, markers, numbers that run on, and what is dear to work out.
const UNITS: [&str; 48] = [
    "\\boxed{",
    "\\boxed{1}",
    "\\boxed{1} and ",
    "\\boxed",
    "{",
    "}",
    "\\{,",
    "(",
    ")",
    "[",
    "$",
    "$$",
    "\\(",
    "$1$, ",
    "$ ",
    "answer is ",
    "final answer is ",
    "final answer is 1. I hope ",
    "I hope ",
    "#### ",
    "####1\n",
    "9",
    "1,",
    "1,234,",
    "1/",
    "1/2/",
    "1.",
    "1e",
    "- ",
    "\\frac{",
    "\\frac{1}{",
    "\\frac",
    "\\sqrt",
    "^{",
    "2^",
    "½",
    "×10^",
    "5 million ",
    "=",
    "x=",
    "(x+y+z)^9",
    "\\pm 1",
    "A and ",
    "1 or ",
    " ",
    "\\",
    "é",
    "\u{2028}",
];

/// Short expressions that would be long to work out.
const EXPRESSIONS: [&str; 8] = [
    "9^{9^{9^{9}}}",
    "(a+b+c+d+x+y)^{12}",
    "((x+y+z)^9)^9",
    "\\frac{1}{\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11}+\\sqrt{13}}",
    "\\sqrt{99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999}",
    "170!^{170!}",
    "(1+\\sqrt{2+x})^{12}(1+\\sqrt{3+x})^{12}",
    "\\begin{pmatrix}a&b&c\\\\d&x&y\\\\z&k&m\\end{pmatrix}\\begin{pmatrix}a&b&c\\\\d&x&y\\\\z&k&m\\end{pmatrix}\\begin{pmatrix}a&b&c\\\\d&x&y\\\\z&k&m\\end{pmatrix}\\begin{pmatrix}a&b&c\\\\d&x&y\\\\z&k&m\\end{pmatrix}",
];

/// A function that is measured, with its name.
type Measured = (&'static str, fn(&str));

fn main() {
    let mut texts: Vec<(String, String)> = Vec::new();
    for unit in UNITS {
        let hostile = unit.repeat(TEXT_BYTES / unit.len());
        texts.push((format!("The answer is {unit}…"), format!("The answer is {hostile}")));
        texts.push((format!("\\boxed{{{unit}…}}"), format!("\\boxed{{{hostile}}}")));
        texts.push((format!("{unit}…"), hostile));
    }
    for expression in EXPRESSIONS {
        let many = format!("\\boxed{{{expression}}}, ").repeat(TEXT_BYTES / (expression.len() + 10));
        texts.push((format!("{expression} in many boxes"), many));
        texts.push((expression.to_owned(), expression.to_owned()));
    }
    let functions: [Measured; 5] = [
        ("extract", |text| {
            black_box(extract(text));
        }),
        ("answer_class", |text| {
            black_box(answer_class(text));
        }),
        ("number_class", |text| {
            black_box(number_class(text));
        }),
        ("choice", |text| {
            black_box(choice(text));
        }),
        ("grade", |text| {
            black_box((grade("\\sqrt{2}", text), grade(text, text)));
        }),
    ];
    println!("worst of {} texts of up to {TEXT_BYTES} bytes", texts.len());
    for (name, function) in functions {
        let worst = texts.iter().map(|(shape, text)| (best_of_three(function, text), shape)).max();
        if let Some((time, shape)) = worst {
            println!("{name:<14}{:>9.3} ms  {shape}", time.as_secs_f64() * 1e3);
        }
    }
}

/// The fastest of three runs, so that what else the machine does is not counted.
fn best_of_three(function: fn(&str), text: &str) -> Duration {
    let run = |_| {
        let start = Instant::now();
        function(text);
        start.elapsed()
    };
    (0..3).map(run).min().unwrap_or_default()
}
