//! Laws of the vote class, on generated expressions: what algebra makes equal is one class, what has different values
//! never is, and no text makes any of it panic or work without bound.

use proptest::prelude::*;

use super::{answer_class, choice, extract, grade, number_class};

/// An expression with its value, to be written in several ways.
#[derive(Debug, Clone)]
enum Term {
    Integer(i64),
    Fraction(i64, i64),
    Root(i64),
    Pi,
    Variable(char),
    Sum(Box<Term>, Box<Term>),
    Difference(Box<Term>, Box<Term>),
    Product(Box<Term>, Box<Term>),
    Square(Box<Term>),
}

fn term(variables: bool) -> impl Strategy<Value = Term> {
    let letters = if variables { vec!['x', 'y', 'n'] } else { Vec::new() };
    let mut leaves = vec![
        (1..20_i64).prop_map(Term::Integer).boxed(),
        (1..12_i64, 2..9_i64).prop_map(|(above, below)| Term::Fraction(above, below)).boxed(),
        (2..30_i64).prop_map(Term::Root).boxed(),
        Just(Term::Pi).boxed(),
    ];
    if variables {
        leaves.push(proptest::sample::select(letters).prop_map(Term::Variable).boxed());
    }
    proptest::strategy::Union::new(leaves).prop_recursive(3, 12, 2, |inner| {
        let pair = || (inner.clone(), inner.clone());
        prop_oneof![
            pair().prop_map(|(one, other)| Term::Sum(Box::new(one), Box::new(other))),
            pair().prop_map(|(one, other)| Term::Difference(Box::new(one), Box::new(other))),
            pair().prop_map(|(one, other)| Term::Product(Box::new(one), Box::new(other))),
            inner.clone().prop_map(|term| Term::Square(Box::new(term))),
        ]
    })
}

impl Term {
    fn value(&self, at: f64) -> f64 {
        match self {
            Self::Integer(value) => *value as f64,
            Self::Fraction(above, below) => *above as f64 / *below as f64,
            Self::Root(radicand) => (*radicand as f64).sqrt(),
            Self::Pi => std::f64::consts::PI,
            Self::Variable(letter) => at + f64::from(*letter as u32 % 7),
            Self::Sum(one, other) => one.value(at) + other.value(at),
            Self::Difference(one, other) => one.value(at) - other.value(at),
            Self::Product(one, other) => one.value(at) * other.value(at),
            Self::Square(inner) => inner.value(at).powi(2),
        }
    }

    fn latex(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Fraction(above, below) => format!("\\frac{{{above}}}{{{below}}}"),
            Self::Root(radicand) => format!("\\sqrt{{{radicand}}}"),
            Self::Pi => "\\pi".to_owned(),
            Self::Variable(letter) => letter.to_string(),
            Self::Sum(one, other) => format!("{} + {}", one.latex(), other.latex()),
            Self::Difference(one, other) => format!("{} - \\left({}\\right)", one.latex(), other.latex()),
            Self::Product(one, other) => {
                format!("\\left({}\\right) \\cdot \\left({}\\right)", one.latex(), other.latex())
            }
            Self::Square(inner) => format!("\\left({}\\right)^{{2}}", inner.latex()),
        }
    }

    /// The same value, written with other laws at every node: parts exchanged, products distributed, roots split and
    /// rationalised, fractions expanded, noughts added.
    fn rewritten(&self, seed: u32) -> String {
        let next = seed.rotate_left(7).wrapping_mul(0x9e37_79b9);
        match self {
            Self::Integer(value) => match seed % 3 {
                0 => format!("({} + {})", value - 7, 7),
                1 => format!("\\frac{{{}}}{{3}}", value * 3),
                _ => format!("{value}.0"),
            },
            Self::Fraction(above, below) => match seed % 3 {
                0 => format!("\\dfrac{{{}}}{{{}}}", above * 6, below * 6),
                1 => format!("({above}/{below})"),
                _ => format!("{above} \\cdot \\frac1{below}"),
            },
            Self::Root(radicand) => match seed % 3 {
                0 => format!("\\frac{{\\sqrt{{{}}}}}{{3}}", radicand * 9),
                1 => format!("\\frac{{{radicand}}}{{\\sqrt{{{radicand}}}}}"),
                _ => format!("{radicand}^{{1/2}}"),
            },
            Self::Pi => {
                if seed.is_multiple_of(2) {
                    "π".to_owned()
                } else {
                    "\\frac{2\\pi}{2}".to_owned()
                }
            }
            Self::Variable(letter) => {
                if seed.is_multiple_of(2) {
                    format!("({letter} + 0)")
                } else {
                    format!("\\frac{{{letter}^2}}{{{letter}}}")
                }
            }
            Self::Sum(one, other) => format!("({}) + ({})", other.rewritten(next), one.rewritten(next ^ 1)),
            Self::Difference(one, other) => format!("-({}) + {}", other.rewritten(next), one.rewritten(next ^ 2)),
            Self::Product(one, other) => match one.as_ref() {
                Self::Sum(left, right) => {
                    let other = other.rewritten(next);
                    format!("({other})({}) + ({})({other})", right.rewritten(next ^ 3), left.rewritten(next ^ 4))
                }
                one => format!("({})({})", other.rewritten(next), one.rewritten(next ^ 5)),
            },
            Self::Square(inner) => format!("({0}) \\times ({0})", inner.rewritten(next)),
        }
    }
}

fn class(text: &str) -> String {
    answer_class(text).unwrap_or_else(|| panic!("{text} has a class"))
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rewriting_keeps_the_class(term in term(true), seed in any::<u32>()) {
        let (one, other) = (term.latex(), term.rewritten(seed));
        let third = term.rewritten(seed.wrapping_add(1));
        prop_assert_eq!(class(&one), class(&other), "{} and {}", one, other);
        prop_assert_eq!(class(&other), class(&third), "{} and {}", other, third);
        prop_assert_eq!(class(&one), class(&third), "{} and {}", one, third);
    }

    #[test]
    fn a_class_has_one_value(one in term(false), other in term(false), seed in any::<u32>()) {
        let values = (one.value(0.0), other.value(0.0));
        let labels = (class(&one.latex()), class(&other.rewritten(seed)));
        if labels.0 == labels.1 {
            prop_assert!(close(values.0, values.1), "{} is {} and {}", labels.0, values.0, values.1);
        } else {
            // Sums of rationals, roots and powers of pi have one form.
            prop_assert!(!close(values.0, values.1), "{} and {} are both {}", labels.0, labels.1, values.0);
        }
    }

    #[test]
    fn a_class_with_variables_has_one_value_everywhere(one in term(true), other in term(true)) {
        if class(&one.latex()) == class(&other.latex()) {
            for at in [0.3, 1.7, 4.1] {
                prop_assert!(close(one.value(at), other.value(at)));
            }
        }
    }

    #[test]
    fn a_label_names_its_own_class(term in term(true)) {
        let label = class(&term.latex());
        prop_assert_eq!(class(&label), label);
    }

    #[test]
    fn a_list_is_in_the_class_of_its_elements(one in term(true), other in term(true), seed in any::<u32>()) {
        let pair = class(&format!("({}, {})", one.latex(), other.latex()));
        prop_assert_eq!(&pair, &class(&format!("({}, {})", one.rewritten(seed), other.rewritten(seed))));
        prop_assert_eq!(&class(&pair), &pair);
        let set = class(&format!("\\{{{}, {}\\}}", one.latex(), other.latex()));
        prop_assert_eq!(&set, &class(&format!("\\{{{}, {}\\}}", other.rewritten(seed), one.latex())));
        prop_assert_ne!(set, pair);
    }

    #[test]
    fn what_is_one_class_is_graded_equal(term in term(true), seed in any::<u32>()) {
        let (one, other) = (term.latex(), term.rewritten(seed));
        prop_assert_eq!(grade(&one, &format!("So \\boxed{{{other}}}.")).name(), "equal", "{} and {}", one, other);
    }

    #[test]
    fn no_text_makes_anything_panic(text in "(\\\\frac|\\\\sqrt|\\\\boxed\\{|\\\\begin\\{pmatrix\\}|\\\\\\\\|\\\\pm|\\\\le|\\\\cup|\\\\in|\\\\text\\{|answer is|I hope|and|or|sin|[-0-9.,;=<>|!/{}()\\[\\]\\\\$%^_&+* a-z∞≤±×]|.){0,40}") {
        let _ = (extract(&text), answer_class(&text), number_class(&text), choice(&text));
        let _ = (grade(&text, &text), grade("1/2", &text), grade(&text, "(1, 2)"));
    }
}
