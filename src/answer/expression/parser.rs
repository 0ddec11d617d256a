//! Reading an expression into its tree, by recursive descent.
//!
//! A reading that LaTeX and plain text would take differently (`1/2x`, `x^12`, `x^1/2`) is refused.

use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::lexer::{Token, tokens};
use super::tree::{Brackets, Tree};
use super::{MAX_BYTES, MAX_DEPTH};

/// Letters that name a function where brackets follow; any other letter is multiplied by them.
const FUNCTION_LETTERS: [&str; 7] = ["f", "g", "h", "F", "G", "H", "W"];

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
    // A number with a capital glued to it is a seat or a room.
    if matches!(tokens.as_slice(), [(Token::Number(..), _), (Token::Symbol(name), false)] if name.starts_with(char::is_uppercase)) {
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

struct Parser<'a> {
    tokens: &'a [(Token, bool)],
    at: usize,
    depth: usize,
    /// How many `|` are open, so that the next one closes.
    bars: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn sign(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn separator(&mut self) -> bool {
        self.sign(',') || self.sign(';')
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn relation(&mut self) -> Option<Tree> {
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

    fn sum(&mut self) -> Option<Tree> {
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

    fn product(&mut self) -> Option<Tree> {
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

    fn starts_factor(&self) -> bool {
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
    fn factor(&mut self) -> Option<Tree> {
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

    fn exponent(&mut self, of_number: bool) -> Option<Tree> {
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

    fn operand(&mut self) -> Option<Tree> {
        let token = self.peek()?;
        match token {
            Token::Number(value, plain) => {
                self.at += 1;
                self.mixed(value, *plain)
            }
            Token::Symbol(name) => {
                self.at += 1;
                self.symbol(name)
            }
            Token::Infinity => {
                self.at += 1;
                Some(Tree::Infinity)
            }
            Token::EmptySet => {
                self.at += 1;
                Some(Tree::List(Brackets::Set { shown: true }, Vec::new()))
            }
            Token::Function(name) => {
                self.at += 1;
                self.deeper(|parser| parser.function(name))
            }
            Token::Command(name) => {
                self.at += 1;
                self.deeper(|parser| parser.command(name))
            }
            Token::Sign('|') if self.bars < 2 => {
                self.at += 1;
                self.bars += 1;
                let inner = self.deeper(Self::sum);
                self.bars -= 1;
                self.sign('|').then_some(Tree::Call("abs".to_owned(), vec![inner?]))
            }
            Token::Sign('(' | '[' | '{') | Token::SetOpen => self.group(),
            Token::MatrixOpen => self.deeper(Self::matrix),
            _ => None,
        }
    }

    /// A number, or the mixed number that begins with it: `1\frac12`, `1 1/2`.
    fn mixed(&mut self, whole: &BigRational, plain: bool) -> Option<Tree> {
        let rest = &self.tokens[self.at..];
        if let [(Token::Number(above, true), true), (Token::Sign('/'), false), (Token::Number(below, true), false), ..] = rest {
            self.at += 3;
            return (plain && above < below).then(|| Tree::Number(whole + above / below));
        }
        if plain && matches!(rest.first(), Some((Token::Command("frac"), _))) {
            let start = self.at;
            self.at += 1;
            let (above, below) = (self.argument()?, self.argument()?);
            if let (Tree::Number(above), Tree::Number(below)) = (&above, &below) {
                // `2\frac{3}{2}` is a product to some and a slip to others.
                let proper = !above.is_negative() && above < below && above.is_integer() && below.is_integer();
                return proper.then(|| Tree::Number(whole + above / below));
            }
            self.at = start;
        }
        Some(Tree::Number(whole.clone()))
    }

    fn symbol(&mut self, name: &str) -> Option<Tree> {
        let mut name = name.to_owned();
        if self.sign('_') {
            name = format!("{name}_{{{}}}", self.index()?);
        }
        let stem = name.split(['_', '\'']).next().unwrap_or_default();
        if FUNCTION_LETTERS.contains(&stem) && self.peek() == Some(&Token::Sign('(')) {
            return Some(Tree::Call(name, self.arguments()?));
        }
        Some(Tree::Symbol(name))
    }

    /// An index as it is written: `n-1` of `x_{n-1}`.
    fn index(&mut self) -> Option<String> {
        let spelled = |token: &Token| match token {
            Token::Number(value, _) => Some(value.to_string()),
            Token::Symbol(name) => Some(name.clone()),
            Token::Sign(sign @ ('+' | '-' | ',')) => Some(sign.to_string()),
            _ => None,
        };
        if !self.sign('{') {
            let token = self.peek()?;
            self.at += 1;
            // LaTeX lowers the first digit alone.
            return spelled(token).filter(|index| index.len() == 1 || index.starts_with('\\'));
        }
        let mut index = String::new();
        while !self.sign('}') {
            index.push_str(&spelled(self.peek()?)?);
            self.at += 1;
        }
        (!index.is_empty()).then_some(index)
    }

    fn function(&mut self, name: &str) -> Option<Tree> {
        let mut name = name.to_owned();
        let mut power = None;
        for _ in 0..2 {
            if self.sign('_') {
                name = format!("{name}_{{{}}}", self.index()?);
            } else if self.sign('^') {
                power = Some(self.exponent(false)?);
            }
        }
        let arguments = match self.peek()? {
            Token::Sign('(' | '{' | '[') => self.arguments()?,
            _ => vec![self.bare_argument()?],
        };
        // `\sin^{-1} x` is the arc sine to most.
        if matches!(&power, Some(power) if !matches!(power, Tree::Number(value) if value.is_positive())) {
            return None;
        }
        let call = Tree::Call(name, arguments);
        Some(match power {
            Some(power) => Tree::Power(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    /// `2x` of `\sin 2x`: the factors up to the next function.
    fn bare_argument(&mut self) -> Option<Tree> {
        let mut factors = vec![self.factor()?];
        while self.starts_factor() && !matches!(self.peek(), Some(Token::Function(_) | Token::Number(..))) {
            factors.push(self.factor()?);
        }
        let ends = self.peek() != Some(&Token::Sign('/'));
        let argument = if factors.len() == 1 { factors.pop()? } else { Tree::Product(factors) };
        ends.then_some(argument)
    }

    /// The arguments in the brackets that follow.
    fn arguments(&mut self) -> Option<Vec<Tree>> {
        match self.group()? {
            Tree::List(Brackets::Around('(', ')') | Brackets::Set { shown: false }, items) if items.len() > 1 => Some(items),
            Tree::List(..) => None,
            one => Some(vec![one]),
        }
    }

    fn command(&mut self, name: &str) -> Option<Tree> {
        match name {
            "frac" => {
                let (above, below) = (self.argument()?, self.argument()?);
                Some(Tree::Product(vec![above, below.reciprocal()]))
            }
            "sqrt" => {
                let mut index = 2;
                if self.sign('[') {
                    let Some(Token::Number(value, true)) = self.peek() else { return None };
                    index = value.to_u32().filter(|index| (2..=100).contains(index))?;
                    self.at += 1;
                    if !self.sign(']') {
                        return None;
                    }
                }
                let radicand = match self.peek()? {
                    Token::Sign('(') => self.group()?,
                    Token::Number(value, true) => {
                        self.at += 1;
                        Tree::Number(value.clone())
                    }
                    _ => self.argument()?,
                };
                Some(Tree::Root(index, Box::new(radicand)))
            }
            "binom" => {
                let (Tree::Number(n), Tree::Number(k)) = (self.argument()?, self.argument()?) else { return None };
                binomial(n.to_u32().filter(|_| n.is_integer())?, k.to_u32().filter(|_| k.is_integer())?)
            }
            _ => {
                let mut limits = [None, None];
                for _ in 0..2 {
                    if self.sign('_') {
                        limits[0] = Some(self.argument()?);
                    } else if self.sign('^') {
                        limits[1] = Some(self.argument()?);
                    }
                }
                let [Some(low), high] = limits else { return None };
                let range = Tree::List(Brackets::Bare, std::iter::once(low).chain(high).collect());
                let range = super::canonical::key(&range)?;
                Some(Tree::Big(format!("{name} {range}"), Box::new(self.deeper(Self::product)?)))
            }
        }
    }

    /// The argument of a command: braces, one digit or one letter.
    fn argument(&mut self) -> Option<Tree> {
        match self.peek()? {
            Token::Sign('{') => self.braced(),
            Token::Number(value, true) => {
                self.at += 1;
                // `\frac12` is a half; the lexer has read one number.
                (value < &BigRational::from_integer(10.into())).then(|| Tree::Number(value.clone()))
            }
            Token::Symbol(_) | Token::Command("frac" | "sqrt") | Token::Infinity => self.operand(),
            _ => None,
        }
    }

    fn braced(&mut self) -> Option<Tree> {
        match self.group()? {
            Tree::List(Brackets::Set { shown: false }, _) => None,
            inner => Some(inner),
        }
    }

    /// What stands in brackets: one thing, or a list.
    fn group(&mut self) -> Option<Tree> {
        let open = self.peek()?;
        self.at += 1;
        let bars = std::mem::take(&mut self.bars);
        let mut items = Vec::new();
        let set = matches!(open, Token::SetOpen);
        if !(set && self.peek() == Some(&Token::SetClose)) {
            items.push(self.relation()?);
            while self.separator() {
                items.push(self.relation()?);
            }
        }
        self.bars = bars;
        let close = self.peek()?;
        self.at += 1;
        match (open, close) {
            (Token::SetOpen, Token::SetClose) => Some(Tree::List(Brackets::Set { shown: true }, items)),
            (Token::Sign('('), Token::Sign(')'))
            | (Token::Sign('['), Token::Sign(']'))
            | (Token::Sign('{'), Token::Sign('}'))
                if items.len() == 1 =>
            {
                items.pop()
            }
            (Token::Sign('{'), Token::Sign('}')) => Some(Tree::List(Brackets::Set { shown: false }, items)),
            (Token::Sign(open @ ('(' | '[')), Token::Sign(close @ (')' | ']'))) => {
                let interval = items.len() == 2;
                let matching = (*open == '(') == (*close == ')');
                (matching || interval).then_some(Tree::List(Brackets::Around(*open, *close), items))
            }
            _ => None,
        }
    }

    fn matrix(&mut self) -> Option<Tree> {
        self.at += 1;
        let mut rows = vec![Vec::new()];
        loop {
            rows.last_mut()?.push(self.sum()?);
            let token = self.peek()?;
            self.at += 1;
            match token {
                Token::Sign('&') => {}
                Token::Row if self.peek() == Some(&Token::MatrixClose) => self.at += 1,
                Token::Row => {
                    rows.push(Vec::new());
                    continue;
                }
                Token::MatrixClose => {}
                _ => return None,
            }
            if token != &Token::Sign('&') {
                let width = rows[0].len();
                return rows.iter().all(|row| row.len() == width).then_some(Tree::Matrix(rows));
            }
        }
    }
}

/// How many ways there are to choose `k` of `n`, for up to 200.
fn binomial(n: u32, k: u32) -> Option<Tree> {
    if n > 200 {
        return None;
    }
    let mut ways = if k > n { BigRational::zero() } else { BigRational::one() };
    for taken in 0..k.min(n) {
        ways *= BigRational::new((n - taken).into(), (taken + 1).into());
    }
    Some(Tree::Number(ways))
}
