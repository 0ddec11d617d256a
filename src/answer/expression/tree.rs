//! The tree that an expression is read into.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::One;

/// An expression as it was written, but for dress. Differences are sums, quotients are products with a power of -1.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::answer) enum Tree {
    Number(BigRational),
    /// A variable with its index, or a constant (`pi`, `e`).
    Symbol(String),
    Infinity,
    Sum(Vec<Tree>),
    Product(Vec<Tree>),
    Power(Box<Tree>, Box<Tree>),
    /// The real root of that index, which a negative number has too where the index is odd.
    Root(u32, Box<Tree>),
    /// A function by its name, which may carry an index (`log_{2}`).
    Call(String, Vec<Tree>),
    Factorial(Box<Tree>),
    /// A sum or product over a range: its name with its limits, and what is added or multiplied.
    Big(String, Box<Tree>),
    /// The centre and what is added to it and taken from it.
    PlusMinus(Box<Tree>, Box<Tree>),
    List(Brackets, Vec<Tree>),
    Matrix(Vec<Vec<Tree>>),
    Union(Vec<Tree>),
    /// One thing more than there are comparisons.
    Relation(Vec<Tree>, Vec<Comparison>),
}

/// What stands around a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::answer) enum Brackets {
    /// Nothing: `1, 2`.
    Bare,
    /// `(1, 2)`, `[0, 1)` and their like, by the brackets themselves.
    Around(char, char),
    /// `\{1, 2\}`, or `{1, 2}` with braces that LaTeX would not show.
    Set { shown: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::answer) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Comparison {
    /// The comparison with its sides exchanged.
    pub fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Equal | Self::Unequal | Self::In => self,
        }
    }

    pub fn spelling(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "\\ne ",
            Self::Less => "<",
            Self::LessOrEqual => "\\le ",
            Self::Greater => ">",
            Self::GreaterOrEqual => "\\ge ",
            Self::In => "\\in ",
        }
    }
}

impl Tree {
    pub fn integer(value: i64) -> Self {
        Self::Number(BigRational::from_integer(BigInt::from(value)))
    }

    pub fn negated(self) -> Self {
        match self {
            Self::Number(value) => Self::Number(-value),
            other => Self::Product(vec![Self::integer(-1), other]),
        }
    }

    pub fn reciprocal(self) -> Self {
        Self::Power(Box::new(self), Box::new(Self::Number(-BigRational::one())))
    }

    /// What the tree is made of, one level down.
    pub fn parts(&self) -> Vec<&Tree> {
        match self {
            Self::Number(_) | Self::Symbol(_) | Self::Infinity => Vec::new(),
            Self::Sum(parts)
            | Self::Product(parts)
            | Self::Call(_, parts)
            | Self::List(_, parts)
            | Self::Union(parts)
            | Self::Relation(parts, _) => parts.iter().collect(),
            Self::Power(one, other) | Self::PlusMinus(one, other) => vec![one, other],
            Self::Root(_, part) | Self::Factorial(part) | Self::Big(_, part) => vec![part],
            Self::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Whether the tree holds no variable: its value is a number, or made of numbers.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Symbol(name) => matches!(name.as_str(), "pi" | "e"),
            Self::Big(..) => false,
            other => other.parts().into_iter().all(Self::is_constant),
        }
    }

    /// Whether a variable of that name occurs anywhere.
    pub fn mentions(&self, name: &str) -> bool {
        matches!(self, Self::Symbol(found) if found == name) || self.parts().into_iter().any(|part| part.mentions(name))
    }
}
