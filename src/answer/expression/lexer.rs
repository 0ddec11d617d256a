//! Cutting an undressed expression into tokens.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::super::dress::ROW_END;
use super::super::rational::rational;
use super::tree::Comparison;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A number, and whether it is written with digits alone.
    Number(BigRational, bool),
    Symbol(String),
    /// A function's name.
    Function(String),
    /// `\frac`, `\sqrt`, `\binom`, `\sum`, `\prod`.
    Command(&'static str),
    /// `+ - * / ^ _ ! , ; | &` and brackets.
    Sign(char),
    /// `\{` and `\}`.
    SetOpen,
    SetClose,
    PlusMinus,
    Union,
    Infinity,
    EmptySet,
    MatrixOpen,
    MatrixClose,
    Row,
    Comparison(Comparison),
}

/// Functions of one argument, by the names that LaTeX and people use.
pub(super) const FUNCTIONS: [&str; 24] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "abs", "sgn", "det", "gcd", "lcm", "max", "min", "deg",
];

/// Greek letters that stand for variables.
const GREEK: [&str; 33] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Omega",
    "ell",
];

/// Lower-case letters that stand beside each other for a product (`xy`, `abc`), where they are no word.
const VARIABLES: &str = "abcdhkmnpqrstuvwxyz";
const NO_PRODUCTS: [&str; 22] = [
    "cm", "mm", "km", "am", "pm", "an", "as", "at", "mb", "kb", "hr", "lb", "ms", "us", "nm", "by", "my", "st", "nd",
    "rd", "th", "ft",
];

/// The tokens of a text, each with whether white space stands before it. `None` where something is no part of an
/// expression, such as a word.
pub(super) fn tokens(text: &str) -> Option<Vec<(Token, bool)>> {
    let mut lexer = Lexer { rest: text, tokens: Vec::new(), depth: 0 };
    let mut spaced = false;
    while let Some(c) = lexer.rest.chars().next() {
        if c.is_whitespace() && c != ROW_END {
            lexer.rest = &lexer.rest[c.len_utf8()..];
            spaced = true;
            continue;
        }
        let before = lexer.tokens.len();
        lexer.next(c)?;
        if let Some(first) = lexer.tokens.get_mut(before) {
            first.1 = spaced;
        }
        spaced = false;
    }
    Some(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<(Token, bool)>,
    /// How many brackets are open; within them a comma separates elements, never thousands.
    depth: usize,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token) {
        self.tokens.push((token, false));
    }

    fn next(&mut self, c: char) -> Option<()> {
        if c.is_ascii_digit() || c == '.' {
            return self.number();
        }
        if c == '\\' {
            return self.command();
        }
        if c.is_ascii_alphabetic() {
            return self.letters();
        }
        for (spelling, comparison) in [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("!=", Comparison::Unequal),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("≤", Comparison::LessOrEqual),
            ("≥", Comparison::GreaterOrEqual),
            ("≠", Comparison::Unequal),
            ("∈", Comparison::In),
        ] {
            if let Some(rest) = self.rest.strip_prefix(spelling) {
                self.rest = rest;
                self.push(Token::Comparison(comparison));
                return Some(());
            }
        }
        self.rest = &self.rest[c.len_utf8()..];
        let token = match c {
            '(' | '[' | '{' => {
                self.depth += 1;
                Token::Sign(c)
            }
            ')' | ']' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                Token::Sign(c)
            }
            '+' | '-' | '*' | '/' | '^' | '_' | '!' | ',' | ';' | '|' | '&' => Token::Sign(c),
            '×' | '∙' => Token::Sign('*'),
            '÷' => Token::Sign('/'),
            '±' => Token::PlusMinus,
            '∪' => Token::Union,
            '∞' => Token::Infinity,
            '∅' => Token::EmptySet,
            'π' => Token::Symbol("pi".to_owned()),
            '√' => Token::Command("sqrt"),
            ROW_END => Token::Row,
            other if other.is_alphabetic() && !self.rest.starts_with(char::is_alphabetic) => {
                Token::Symbol(other.to_string())
            }
            _ => return None,
        };
        self.push(token);
        Some(())
    }

    /// A decimal number, with thousands separators outside brackets, an exponent (`1e3`) or a repeating part
    /// (`0.\overline{3}`).
    fn number(&mut self) -> Option<()> {
        let bytes = self.rest.as_bytes();
        let digits =
            |from: usize| bytes.get(from..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count());
        let mut end = digits(0);
        if self.depth == 0 && (1..=3).contains(&end) && bytes[0] != b'0' {
            while bytes.get(end) == Some(&b',') && digits(end + 1) == 3 {
                end += 4;
            }
            // `1,000,2` may be two numbers or three.
            if end > 3 && bytes.get(end) == Some(&b',') && digits(end + 1) > 0 {
                return None;
            }
        }
        let plain = end > 0 && bytes.get(end) != Some(&b'.');
        let point = end;
        if bytes.get(end) == Some(&b'.') {
            let decimals = digits(end + 1);
            if decimals == 0 && end == 0 {
                return None;
            }
            end += 1 + decimals;
        }
        let value = rational(self.rest[..end].trim_end_matches('.'))?;
        let after = &self.rest[end..];
        if let Some((repeating, rest)) = after.strip_prefix("\\overline{").and_then(|inner| inner.split_once('}')) {
            let places = end.checked_sub(point + 1)?;
            let whole = !repeating.is_empty() && repeating.bytes().all(|b| b.is_ascii_digit()) && repeating.len() <= 40;
            let ten = |power: usize| BigInt::from(10).pow(power as u32);
            let part = BigRational::new(
                repeating.parse().ok().filter(|_| whole)?,
                (ten(repeating.len()) - 1) * ten(places.min(100)),
            );
            self.rest = rest;
            self.push(Token::Number(value + part, false));
            return Some(());
        }
        if let Some(exponent) = after.strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['-', '+']));
            let length = digits(end + 1 + sign);
            if length > 0 && !exponent[sign + length..].starts_with(char::is_alphabetic) {
                let value = rational(&self.rest[..end + 1 + sign + length])?;
                self.rest = &exponent[sign + length..];
                self.push(Token::Number(value, false));
                return Some(());
            }
        }
        // A second point belongs to a version or a sentence.
        if after.starts_with('.') {
            return None;
        }
        self.rest = after;
        self.push(Token::Number(value, plain));
        Some(())
    }

    fn letters(&mut self) -> Option<()> {
        let length = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.word(word)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        if word == "pi" {
            self.push(Token::Symbol("pi".to_owned()));
        } else if word == "sqrt" {
            self.push(Token::Command("sqrt"));
        } else if FUNCTIONS.contains(&word) {
            self.push(Token::Function(word.to_owned()));
        } else if word.len() == 1 || word.len() <= 4 && word.bytes().all(|b| b.is_ascii_uppercase()) {
            // Capitals beside each other name one thing: the segment `AB`.
            let primes = self.rest.len() - self.rest.trim_start_matches('\'').len();
            self.rest = &self.rest[primes..];
            self.push(Token::Symbol(format!("{word}{}", "'".repeat(primes))));
        } else if word.len() <= 3 && word.chars().all(|c| VARIABLES.contains(c)) && !NO_PRODUCTS.contains(&word) {
            for letter in word.chars() {
                self.push(Token::Symbol(letter.to_string()));
            }
        } else {
            return None;
        }
        Some(())
    }

    /// A command whose arguments may be single digits, as in `\frac12` and `\sqrt2x`.
    fn with_digits(&mut self, name: &'static str, arguments: usize) -> Option<()> {
        self.push(Token::Command(name));
        for _ in 0..arguments {
            let Some(digit) = self.rest.trim_start().bytes().next().filter(u8::is_ascii_digit) else { break };
            self.rest = &self.rest.trim_start()[1..];
            self.push(Token::Number(BigRational::from_integer((digit - b'0').into()), true));
        }
        Some(())
    }

    fn command(&mut self) -> Option<()> {
        let after = &self.rest[1..];
        for (brace, token) in [('{', Token::SetOpen), ('}', Token::SetClose)] {
            if let Some(rest) = after.strip_prefix(brace) {
                self.rest = rest;
                self.depth = if brace == '{' { self.depth + 1 } else { self.depth.saturating_sub(1) };
                self.push(token);
                return Some(());
            }
        }
        let length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (name, rest) = after.split_at(length);
        self.rest = rest;
        let token = match name {
            "frac" => return self.with_digits("frac", 2),
            "sqrt" => return self.with_digits("sqrt", 1),
            "binom" | "dbinom" | "tbinom" => Token::Command("binom"),
            "sum" => Token::Command("sum"),
            "prod" => Token::Command("prod"),
            "pi" => Token::Symbol("pi".to_owned()),
            "infty" => Token::Infinity,
            "emptyset" | "varnothing" => Token::EmptySet,
            "pm" => Token::PlusMinus,
            "cup" => Token::Union,
            "div" => Token::Sign('/'),
            "ast" => Token::Sign('*'),
            "lvert" | "rvert" | "vert" | "mid" => Token::Sign('|'),
            "lbrace" => Token::SetOpen,
            "rbrace" => Token::SetClose,
            "le" | "leq" | "leqslant" => Token::Comparison(Comparison::LessOrEqual),
            "ge" | "geq" | "geqslant" => Token::Comparison(Comparison::GreaterOrEqual),
            "lt" => Token::Comparison(Comparison::Less),
            "gt" => Token::Comparison(Comparison::Greater),
            "ne" | "neq" => Token::Comparison(Comparison::Unequal),
            "in" => Token::Comparison(Comparison::In),
            "begin" | "end" => {
                let (environment, rest) = rest.strip_prefix('{')?.split_once('}')?;
                let known = ["matrix", "pmatrix", "bmatrix", "smallmatrix", "array"];
                self.rest = rest;
                if !known.contains(&environment) {
                    return None;
                }
                if name == "begin" {
                    self.depth += 1;
                    if environment == "array" {
                        self.rest = rest.strip_prefix('{')?.split_once('}')?.1;
                    }
                    Token::MatrixOpen
                } else {
                    self.depth = self.depth.saturating_sub(1);
                    Token::MatrixClose
                }
            }
            name if FUNCTIONS.contains(&name) => Token::Function(name.to_owned()),
            name if GREEK.contains(&name) => Token::Symbol(format!("\\{name}")),
            // `\quadx` is what some models write for `\quad x`.
            name => return self.word(name.strip_prefix("qquad").or_else(|| name.strip_prefix("quad"))?),
        };
        self.push(token);
        Some(())
    }
}
