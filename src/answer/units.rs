//! What may follow a number: units and what it counts, words that multiply it, words that change it.

/// Words that multiply the number before them.
const SCALES: [(&str, u128); 9] = [
    ("dozen", 12),
    ("hundred", 100),
    ("thousand", 1_000),
    ("lakh", 100_000),
    ("million", 1_000_000),
    ("crore", 10_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
    ("quadrillion", 1_000_000_000_000_000),
];

/// Words beside a number that change its value or join it to another, in the singular.
const CHANGES: &str = "k mn bn tn mio mil bil pi e i or and to plus minus negative times mod modulo base am pm bc bce \
    ad half halve third quarter fourth fifth sixth seventh eighth ninth tenth eleventh twelfth fifteenth sixteenth \
    twentieth fiftieth hundredth thousandth millionth billionth squared cubed factorial percent percentage ppm ppb \
    bps not is if than below above less more fewer over under least most decrease increase loss deficit debt \
    remainder choose root";

/// Numbers in words: after a number they count a smaller unit, as in `5 feet six inches`.
const NUMBER_WORDS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen \
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety";

/// One-letter units; any other single letter is a variable.
const LETTER_UNITS: &str = "mgslhLNJWVAKCF";

/// One-letter units that may be glued to the number. `5m` may be millions, and `1A`, `1C` and `1F` may be seats
/// or hexadecimal.
const GLUED_LETTER_UNITS: &str = "gslhLWV";

/// What the first word of `text`, or the first two (`hundred thousand`), multiply the number before them by, and
/// what follows.
pub(super) fn scale(text: &str) -> Option<(u128, &str)> {
    let (first, rest) = scale_word(text)?;
    Some(scale_word(rest).map_or((first, rest), |(second, rest)| (first * second, rest)))
}

/// What follows the word for a part (`quarters`) or the glued letters for a scale (`5k`) at the start of `text`.
pub(super) fn after_part(text: &str) -> Option<&str> {
    let start = text.trim_start_matches(' ');
    let (word, rest) = start.split_at(start.find(|c: char| !c.is_alphabetic()).unwrap_or(start.len()));
    let part = singular(word);
    let glued = start.len() == text.len() && matches!(part.as_str(), "k" | "mn" | "bn" | "tn");
    let part =
        part.ends_with("th") && part.len() > 3 || matches!(part.as_str(), "half" | "halve" | "third" | "quarter");
    (glued || part && changes(word)).then_some(rest)
}

fn scale_word(text: &str) -> Option<(u128, &str)> {
    let text = text.trim_start();
    let (word, rest) = text.split_at(text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len()));
    let (_, factor) = SCALES.iter().find(|(name, _)| *name == singular(word))?;
    Some((*factor, rest))
}

/// Whether what follows a number only says what it counts.
pub(super) fn is_unit(unit: &str, glued: bool) -> bool {
    let words: Vec<&str> = unit.split([' ', '/', '×', '-']).filter(|word| !word.is_empty()).collect();
    let is_word = |word: &&str| {
        let (letters, power) = match word.find(['^', '²', '³']) {
            Some(at) => word.split_at(at),
            None => (*word, ""),
        };
        let known_power =
            matches!(power, "" | "²" | "³" | "^2" | "^3" | "^{2}" | "^{3}" | "^-1" | "^{-1}" | "^-2" | "^{-2}");
        let letters = letters.trim_end_matches(['.', '\'']);
        let mut chars = letters.chars();
        let known_letters = match (chars.next(), chars.next()) {
            (None, _) => !power.is_empty(),
            (Some(only), None) if glued && unit.len() == 1 => GLUED_LETTER_UNITS.contains(only),
            (Some(only), None) => LETTER_UNITS.contains(only),
            _ => letters.chars().all(char::is_alphabetic),
        };
        let word = singular(letters);
        known_power && known_letters && !changes(letters) && !listed(NUMBER_WORDS, &word) && scale(&word).is_none()
    };
    // What is glued to the number is one unit; several words after a space are still a description.
    !words.is_empty() && words.len() <= if glued { 3 } else { 5 } && words.iter().all(is_word)
}

/// Units that may follow any expression: no product of variables is written like them.
const MEASURES: &str = "cm mm km inch inche foot feet yard mile meter metre centimeter centimetre millimeter \
    kilometer kilometre unit degree radian second minute hour day week month year dollar cent euro gram kilogram kg \
    pound liter litre square sq cubic per mph";

/// Whether what follows an expression is its unit: `cm^2`, `square units`, `km/h`.
pub(super) fn is_measure(unit: &str) -> bool {
    let mut words = unit.split([' ', '/', '.']).filter(|word| !word.is_empty()).peekable();
    let is_measure = |word: &str| {
        let power = word.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '^' | '{' | '}' | '²' | '³'));
        power.is_empty() || listed(MEASURES, &singular(power))
    };
    words.peek().is_some_and(|word| word.starts_with(char::is_alphabetic)) && words.take(4).all(is_measure)
}

/// Whether a word beside a number makes it another number.
pub(super) fn changes(word: &str) -> bool {
    listed(CHANGES, &word.to_lowercase()) || listed(CHANGES, &singular(word))
}

/// Whether a word is a number in words.
pub(super) fn is_number_word(word: &str) -> bool {
    listed(NUMBER_WORDS, &word.to_lowercase())
}

fn listed(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|listed| listed == word)
}

/// The word in lower case without the `s` of a plural.
fn singular(word: &str) -> String {
    let word = word.to_lowercase();
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 1 => stem.to_owned(),
        _ => word,
    }
}
