//! What an equation says, where it gives the value of one thing.

/// The value that an equation gives: `5` for `x = 5`, `5 = x`, `Total = 5` and `2 + 3 = 5`. `None` when the text
/// is no equation, or one that relates several things (`x + y = 5`, `x^2 = 25`, `x = 5, y = 3`).
pub(super) fn value_of_equation(text: &str) -> Option<&str> {
    let sides = sides(text)?;
    let (first, last) = (*sides.first()?, *sides.last()?);
    let joined = |side: &str| side.split_whitespace().any(|word| matches!(word, "or" | "and" | "not" | "if"));
    let single = |side: &&str| !side.contains([',', ';', '<', '>', '≤', '≥', '≠']) && !side.ends_with(['!', '\\']);
    let (last_side, before) = sides.split_last()?;
    if before.is_empty() || !before.iter().all(single) || before.iter().any(|side| joined(side)) {
        return None;
    }
    if sides.len() == 2 && is_name(last_side) && is_computed(first) {
        return Some(first);
    }
    // `10 = 2x` says nothing of one thing.
    (is_name(first) || is_computed(first) && is_computed(last)).then_some(last)
}

/// What stands between the equality signs that are outside brackets, so that `P(X = 2) = 5` has two sides.
fn sides(text: &str) -> Option<Vec<&str>> {
    let mut sides = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'=' if depth <= 0 => {
                sides.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    sides.push(text[start..].trim());
    // `==` says what `=` says.
    sides.dedup_by(|next, side| side.is_empty() && next.is_empty());
    if sides.len() == 3 && sides[1].is_empty() {
        sides.remove(1);
    }
    (sides.iter().all(|side| !side.is_empty())).then_some(sides)
}

/// LaTeX commands that mark the name of a quantity.
const MARKS: [&str; 8] = ["angle", "overline", "triangle", "vec", "hat", "bar", "Delta", "mathbb"];

/// LaTeX commands that name a quantity by themselves.
const SYMBOLS: [&str; 31] = [
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
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Omega",
    "ell",
];

/// Functions whose argument an equation restricts without giving it.
const FUNCTIONS: [&str; 16] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "lg", "exp", "sqrt", "abs", "arcsin", "arccos", "arctan",
    "frac",
];

/// A variable, a function at some place, or a few words that name a quantity. A product (`xy`, `2x`) is none.
fn is_name(text: &str) -> bool {
    let (base, argument) = match text.find('(') {
        Some(at) if text.ends_with(')') => (text[..at].trim_end(), Some(&text[at + 1..text.len() - 1])),
        _ => (text, None),
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '{' | '}' | ' ' | '\\' | '\'');
    let starts = base.starts_with(|first: char| first.is_alphabetic() || first == '\\');
    if text.len() > 60 || !starts || !base.chars().all(plain) {
        return false;
    }
    if let Some(argument) = argument {
        // `f(x + 1)` is a function, `x(x + 1)` a product.
        let function = matches!(base, "f" | "g" | "h" | "F" | "G" | "H" | "P" | "Pr" | "E" | "Var");
        let simple = argument.chars().all(|c| plain(c) || c == ',');
        return !argument.contains([')', '(']) && (function || simple && is_name(base));
    }
    let commands = base.split('\\').skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphabetic()).next());
    if !commands.into_iter().all(|command| SYMBOLS.contains(&command) || MARKS.contains(&command)) {
        return false;
    }
    // One variable is a name, several are a product, and with a word beside them a description (`price of A`).
    let (mut variables, mut words) = (0, 0);
    for word in base.split([' ', '\\', '{', '}']).filter(|word| !word.is_empty()) {
        // An index is no name of its own.
        let stem = word.split_once('_').map_or(word, |(stem, _)| stem).trim_end_matches('\'');
        let letters = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        if FUNCTIONS.contains(&letters) || !letters.chars().all(char::is_alphabetic) || is_product(letters) {
            return false;
        }
        match letters {
            "" | "vec" | "hat" | "bar" => {}
            _ if letters.chars().nth(1).is_none() || SYMBOLS.contains(&letters) => variables += 1,
            _ => words += 1,
        }
    }
    words > 0 || variables <= 1
}

/// Whether letters are rather several variables than a word: `xy`, `abc`, but not `AB` or `age`.
fn is_product(letters: &str) -> bool {
    match letters.len() {
        2 => {
            letters.bytes().all(|byte| byte.is_ascii_lowercase())
                && !matches!(letters, "of" | "in" | "at" | "is" | "to" | "we" | "by" | "mu" | "nu" | "xi")
        }
        3 => {
            letters != "bar"
                && letters.bytes().all(|byte| matches!(byte, b'a'..=b'd' | b'm' | b'n' | b'p'..=b't' | b'x'..=b'z'))
        }
        _ => false,
    }
}

/// An expression of numbers alone, as `2 + 3`, `\sqrt{9}` and `3 apples + 4 apples` are: it holds a digit and
/// no variable.
fn is_computed(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    text.contains(|c: char| c.is_ascii_digit())
        && !SYMBOLS.iter().any(|symbol| text.contains(&format!("\\{symbol}")))
        && words.all(|word| {
            let unit = matches!(word, "km" | "cm" | "mm" | "kg" | "ft" | "ln" | "pi");
            unit || word.chars().nth(2).is_some() && !is_product(word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_one_thing_is_taken() {
        for text in [
            "x = 5",
            "5 = x",
            "Total = 5",
            "Total cost = 5",
            "2 + 3 = 5",
            "x = 2 + 3 = 5",
            "\\theta = 5",
            "f(x) = 5",
            "f(x+1) = 5",
            "P(X = 2) = 5",
            "x_1 = 5",
            "x_{12} = 5",
            "\\angle ABC = 5",
            "AB = 5",
            "5! / 24 = 5",
            "x == 5",
            "\\sqrt{25} = 5",
            "\\Delta x = 5",
            "m\\angle A = 5",
            "\\vec{v} = 5",
            "\\bar{x} = 5",
            "angle A = 5",
            "a(3) = 5",
            "3 km + 2 km = 5",
            "y' = 5",
        ] {
            assert_eq!(value_of_equation(text), Some("5"), "{text}");
        }
    }

    #[test]
    fn a_relation_between_things_stays_whole() {
        for text in [
            "x + y = 5",
            "2x - 7y = 5",
            "x^2+y^2=25",
            "2x = 5",
            "xy = 5",
            "x y = 5",
            "abc = 5",
            "x^2 = 5",
            "x/2 = 5",
            "\\sin x = 5",
            "sin x = 5",
            "\\sqrt{x} = 5",
            "\\frac{x}{y} = 5",
            "|x| = 5",
            "x = 5, y = 3",
            "x = 5 or x = 3",
            "x != 5",
            "x <= 5",
            "x \\= 5",
            "x(x+1) = 5",
            "\\alpha\\beta = 5",
            "2\\alpha = 5",
            "= 5",
            "x =",
            "5",
            "x + y = 2 + 3 = 5",
            "x and y = 5",
            "not x = 5",
            "x = 1 = y = 2, 3 = 5",
        ] {
            assert_eq!(value_of_equation(text), None, "{text}");
        }
    }
}
