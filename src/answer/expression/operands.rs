//! Reading what sums and products are made of: numbers, symbols, functions, commands, brackets and matrices.

use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::lexer::Token;
use super::parser::Parser;
use super::tree::{Brackets, Tree};

/// Letters that name a function where brackets follow; any other letter is multiplied by them.
const FUNCTION_LETTERS: [&str; 7] = ["f", "g", "h", "F", "G", "H", "W"];

impl Parser<'_> {
    pub fn operand(&mut self) -> Option<Tree> {
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
        if let [
            (Token::Number(above, true), true),
            (Token::Sign('/'), false),
            (Token::Number(below, true), false),
            ..,
        ] = rest
        {
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
            Tree::List(Brackets::Around('(', ')') | Brackets::Set { shown: false }, items) if items.len() > 1 => {
                Some(items)
            }
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

    pub fn braced(&mut self) -> Option<Tree> {
        match self.group()? {
            Tree::List(Brackets::Set { shown: false }, _) => None,
            inner => Some(inner),
        }
    }

    /// What stands in brackets: one thing, or a list.
    pub fn group(&mut self) -> Option<Tree> {
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
