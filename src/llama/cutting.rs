//! Long texts in pieces that llama.cpp can take.
//!
//! For most byte-pair vocabularies llama.cpp splits a text into words by regular expressions, whose
//! evaluation recurses for each character of a word: some thousand letters without a space overflow the
//! stack and end the process. A text in short pieces cannot. The cuts lie between two words wherever there
//! are any, where those expressions cut as well, so that the tokens stay the same.

/// The most characters of a piece. Such a recursion takes up to a kilobyte of stack for each.
pub(super) const PIECE_CHARS: usize = 1000;

/// Cuts a text into pieces of at most `most` characters. `within` gives the end of a stretch that is not to
/// be cut and begins where its argument does, if there is one.
pub(super) fn cut<'t>(text: &'t str, most: usize, within: &dyn Fn(&'t str) -> Option<usize>) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((end, _)) = rest.char_indices().nth(most) {
        let at = whole(rest, best_cut(rest, end), within);
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The last place in the second half of `text[..end]` at which a word begins with its space, or else one at
/// which letters, digits, spaces or other characters give way to each other, or else `end`.
fn best_cut(text: &str, end: usize) -> usize {
    let mut change = None;
    let mut after: Option<char> = text[end..].chars().next();
    for (at, here) in text[..end].char_indices().rev() {
        if at < end / 2 {
            break;
        }
        let before = text[..at].chars().next_back();
        let Some(before) = before else { break };
        if here == ' ' && !before.is_whitespace() && after.is_some_and(|after| !after.is_whitespace()) {
            return at;
        }
        if change.is_none() && class(before) != class(here) {
            change = Some(at);
        }
        after = Some(here);
    }
    change.unwrap_or(end)
}

/// Moves a cut to the beginning of the stretch that it would cut in two.
fn whole<'t>(text: &'t str, at: usize, within: &dyn Fn(&'t str) -> Option<usize>) -> usize {
    let first = text[..at].char_indices().rev().take(LONGEST_STRETCH_CHARS).last().map_or(0, |(start, _)| start);
    let stretch = text[first..at]
        .char_indices()
        .map(|(offset, _)| first + offset)
        .find(|start| within(&text[*start..]).is_some_and(|length| start + length > at));
    // A stretch that is all there is has to be cut after all.
    stretch.filter(|start| *start > 0).unwrap_or(at)
}

/// Longer names of control tokens are not looked for.
const LONGEST_STRETCH_CHARS: usize = 64;

#[derive(PartialEq)]
enum Class {
    Space,
    Letter,
    Digit,
    Other,
}

fn class(c: char) -> Class {
    match c {
        c if c.is_whitespace() => Class::Space,
        c if c.is_alphabetic() => Class::Letter,
        c if c.is_numeric() => Class::Digit,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, most: usize) -> Vec<&str> {
        let control = |text: &str| text.starts_with("<|end|>").then_some(7);
        let pieces = cut(text, most, &control);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.chars().count() <= most), "{pieces:?}");
        pieces
    }

    #[test]
    fn a_text_that_is_short_stays_whole() {
        assert!(pieces("", 4).is_empty());
        assert_eq!(pieces("a b", 4), ["a b"]);
        assert_eq!(pieces("abcd", 4), ["abcd"]);
    }

    #[test]
    fn cuts_lie_before_the_space_of_a_word() {
        assert_eq!(pieces("one two three four", 9), ["one two", " three", " four"]);
        // Spaces in a row belong together.
        assert_eq!(pieces("one two   three", 10), ["one two", "   three"]);
    }

    #[test]
    fn a_word_without_end_is_cut_all_the_same() {
        assert_eq!(pieces(&"A".repeat(10_000), 1000).len(), 10);
        assert_eq!(pieces(&" ".repeat(10_000), 1000).len(), 10);
        assert_eq!(pieces(&"汉".repeat(2001), 1000).len(), 3);
        assert_eq!(pieces("abcdef12345678", 8), ["abcdef", "12345678"]);
    }

    #[test]
    fn no_control_token_is_cut_in_two() {
        for length in 0..20 {
            let text = format!("{}<|end|>{}", "-".repeat(length), "x".repeat(12));
            assert!(pieces(&text, 10).iter().any(|piece| piece.contains("<|end|>")), "{length}");
        }
    }
}
