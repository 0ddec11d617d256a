//! Reading an expression into its tree, by recursive descent: lists, relations, sums, products and powers.
//!
//! A reading that LaTeX and plain text would take differently (`1/2x`, `x^12`, `x^1/2`) is refused.

use num_rational::BigRational;
use num_traits::One;

use super::lexer::{Token, tokens};
use super::tree::{Brackets, Tree};
use super::{MAX_BYTES, MAX_DEPTH};

/// Reads an undressed text (see `undress`) as an expression, a list, a set, an interval, a matrix or a relation. `None`
/// for what is none of these, is ambiguous, or is too long or too deep.
pub(in crate::answer) fn read(text: &str) -> Option<Tree> {
    // `5-10`, `3-1-2` and `555-1234` are ranges, scores and telephone numbers.
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    let range = inner.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | ' '))
        && inner.trim_start_matches(['-', ' ']).contains('-');
    if text.len() > MAX_BYTES || range {
        return None;
    }
    let tokens = tokens(text)?;
    if !is_mathematics(&tokens) {
        return None;
    }
    // A number with a capital glued to it is a seat or a room.
    if matches!(tokens.as_slice(), [(Token::Number(..), _), (Token::Symbol(name), false)] if name.starts_with(char::is_uppercase))
    {
        return None;
    }
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, bars: 0 };
    let mut items = vec![parser.relation()?];
    while parser.separator() {
        items.push(parser.relation()?);
    }
    let tree = if items.len() == 1 { items.pop()? } else { Tree::List(Brackets::Bare, items) };
    (parser.at == tokens.len()).then_some(tree)
}

/// Whether more than letters stand there: `N/A`, `x-ray`, `(bat, cat)` and `AB` are words, `x - y` is none.
fn is_mathematics(tokens: &[(Token, bool)]) -> bool {
    tokens.iter().enumerate().any(|(at, (token, spaced))| match token {
        Token::Symbol(name) => name == "pi",
        Token::Sign('-') => at > 0 && *spaced && tokens.get(at + 1).is_some_and(|(_, spaced)| *spaced),
        Token::Sign('/' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '!' | '_' | '&') => false,
        _ => true,
    })
}

pub(super) struct Parser<'a> {
    pub tokens: &'a [(Token, bool)],
    pub at: usize,
    depth: usize,
    /// How many `|` are open, so that the next one closes.
    pub bars: usize,
}

impl<'a> Parser<'a> {
    pub fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    pub fn sign(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    pub fn separator(&mut self) -> bool {
        self.sign(',') || self.sign(';')
    }

    pub fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    pub fn relation(&mut self) -> Option<Tree> {
        self.deeper(|parser| {
            let mut sides = vec![parser.union()?];
            let mut comparisons = Vec::new();
            while let Some(Token::Comparison(comparison)) = parser.peek() {
                parser.at += 1;
                comparisons.push(*comparison);
                sides.push(parser.union()?);
            }
            if comparisons.is_empty() { sides.pop() } else { Some(Tree::Relation(sides, comparisons)) }
        })
    }

    fn union(&mut self) -> Option<Tree> {
        let mut parts = vec![self.sum()?];
        while self.peek() == Some(&Token::Union) {
            self.at += 1;
            parts.push(self.sum()?);
        }
        if parts.len() == 1 { parts.pop() } else { Some(Tree::Union(parts)) }
    }

    pub fn sum(&mut self) -> Option<Tree> {
        let mut parts = Vec::new();
        if self.peek() != Some(&Token::PlusMinus) {
            let negative = self.sign('-');
            if !negative {
                self.sign('+');
            }
            let first = self.product()?;
            parts.push(if negative { first.negated() } else { first });
        }
        loop {
            match self.peek() {
                Some(Token::Sign('+')) => {
                    self.at += 1;
                    // `3 + -2`
                    let negative = self.sign('-');
                    let part = self.product()?;
                    parts.push(if negative { part.negated() } else { part });
                }
                Some(Token::Sign('-')) => {
                    self.at += 1;
                    parts.push(self.product()?.negated());
                }
                Some(Token::PlusMinus) => {
                    self.at += 1;
                    let offset = self.product()?;
                    let centre = if parts.is_empty() { Tree::integer(0) } else { Tree::Sum(parts) };
                    // What would follow (`3 ± 2 + x`) could belong to either part.
                    let ends = !matches!(self.peek(), Some(Token::Sign('+' | '-') | Token::PlusMinus));
                    return ends.then(|| Tree::PlusMinus(Box::new(centre), Box::new(offset)));
                }
                _ => return if parts.len() == 1 { parts.pop() } else { Some(Tree::Sum(parts)) },
            }
        }
    }

    pub fn product(&mut self) -> Option<Tree> {
        let mut factors = vec![self.factor()?];
        let mut divided = false;
        loop {
            match self.peek() {
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    factors.push(self.signed_factor()?);
                }
                Some(Token::Sign('/')) => {
                    self.at += 1;
                    // `1/2/2024` is a date.
                    if divided {
                        return None;
                    }
                    divided = true;
                    factors.push(self.signed_factor()?.reciprocal());
                    // `1/2x` is read in two ways.
                    if self.starts_factor() {
                        return None;
                    }
                }
                _ if self.starts_factor() => {
                    // A number after a factor (`x2`, `2 3`) is no product.
                    if matches!(self.peek(), Some(Token::Number(..))) {
                        return None;
                    }
                    factors.push(self.factor()?);
                }
                _ => return if factors.len() == 1 { factors.pop() } else { Some(Tree::Product(factors)) },
            }
        }
    }

    fn signed_factor(&mut self) -> Option<Tree> {
        if self.sign('-') { self.factor().map(Tree::negated) } else { self.factor() }
    }

    pub fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Sign('|')) => self.bars == 0,
            Some(
                Token::Number(..)
                | Token::Symbol(_)
                | Token::Function(_)
                | Token::Command(_)
                | Token::SetOpen
                | Token::Infinity
                | Token::EmptySet
                | Token::MatrixOpen
                | Token::Sign('(' | '[' | '{'),
            ) => true,
            _ => false,
        }
    }

    /// An operand with its powers and factorials.
    pub fn factor(&mut self) -> Option<Tree> {
        let bare_number = matches!(self.peek(), Some(Token::Number(..)));
        let mut base = self.operand()?;
        loop {
            if self.sign('!') {
                // `5!!` is no factorial of a factorial.
                if self.peek() == Some(&Token::Sign('!')) {
                    return None;
                }
                base = Tree::Factorial(Box::new(base));
            } else if self.sign('^') {
                let exponent = self.exponent(bare_number)?;
                // `2^3^4` is no LaTeX.
                if self.peek() == Some(&Token::Sign('^')) {
                    return None;
                }
                base = Tree::Power(Box::new(base), Box::new(exponent));
            } else {
                return Some(base);
            }
        }
    }

    pub fn exponent(&mut self, of_number: bool) -> Option<Tree> {
        match self.peek()? {
            Token::Sign('{') => self.braced(),
            Token::Sign('(') => self.group(),
            Token::Sign('-') if of_number => {
                self.at += 1;
                let signed_twice = self.peek() == Some(&Token::Sign('-'));
                if signed_twice { None } else { self.exponent(of_number).map(Tree::negated) }
            }
            Token::Number(value, plain) => {
                self.at += 1;
                let short = of_number || value < &BigRational::from_integer(10.into());
                // LaTeX raises the first digit alone, and `x^1/2` is a root to some.
                let root = value.is_one() && self.peek() == Some(&Token::Sign('/'));
                (*plain && short && !root).then(|| Tree::Number(value.clone()))
            }
            Token::Symbol(_) | Token::Command("frac") => self.operand(),
            _ => None,
        }
    }
}
