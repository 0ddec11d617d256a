//! From token bytes to the text that a client may see: UTF-8 across token boundaries, and stop strings
//! across tokens of which no beginning ever leaks.

/// Decodes bytes to text as they come. A character that is not complete yet waits for its rest; bytes that
/// cannot become one are U+FFFD, as in [`String::from_utf8_lossy`].
#[derive(Debug, Clone, Default)]
pub(super) struct Utf8Decoder {
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// Takes bytes and appends to `text` all characters that are complete.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("valid up to here"));
                    rest = after;
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[length..];
                        }
                        None => break,
                    }
                }
            }
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
    }

    /// Ends the text: an incomplete character becomes one U+FFFD.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Looks for stop strings in text that comes in pieces, and holds back what may be the beginning of one.
#[derive(Debug, Clone)]
pub(super) struct StopMatcher {
    stops: std::sync::Arc<[String]>,
    held: String,
}

impl StopMatcher {
    /// No stop string may be empty.
    pub(super) fn new(stops: std::sync::Arc<[String]>) -> Self {
        debug_assert!(stops.iter().all(|stop| !stop.is_empty()));
        Self { stops, held: String::new() }
    }

    /// Takes text and appends to `out` what cannot belong to a stop string. True when a stop string is
    /// complete: `out` then ends right before it, and what followed it is dropped.
    pub(super) fn push(&mut self, text: &str, out: &mut String) -> bool {
        self.held.push_str(text);
        if let Some(start) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            out.push_str(&self.held[..start]);
            self.held.clear();
            return true;
        }
        let kept = self.stops.iter().map(|stop| begun_marker_length(&self.held, stop)).max().unwrap_or(0);
        out.push_str(&self.held[..self.held.len() - kept]);
        self.held.drain(..self.held.len() - kept);
        false
    }

    /// Ends the text: what was held back was no stop string.
    pub(super) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

/// Length in bytes of the longest end of `text` that is a beginning of `marker` without being all of it.
pub(super) fn begun_marker_length(text: &str, marker: &str) -> usize {
    let longest = text.len().min(marker.len().saturating_sub(1));
    (1..=longest).rev().find(|&length| text.as_bytes().ends_with(&marker.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> String {
        let mut decoder = Utf8Decoder::default();
        let mut text = String::new();
        for piece in pieces {
            decoder.push(piece, &mut text);
        }
        decoder.finish(&mut text);
        text
    }

    fn cut(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut outs = Vec::new();
        for piece in pieces {
            let mut out = String::new();
            let stopped = matcher.push(piece, &mut out);
            outs.push(out);
            if stopped {
                return (outs, true);
            }
        }
        let mut out = String::new();
        matcher.finish(&mut out);
        outs.push(out);
        (outs, false)
    }

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut decoder = Utf8Decoder::default();
        let mut text = String::new();
        decoder.push(&[b'a', 0xF0, 0x9F], &mut text);
        assert_eq!(text, "a");
        decoder.push(&[0x98], &mut text);
        assert_eq!(text, "a");
        decoder.push(&[0x80, b'b'], &mut text);
        assert_eq!(text, "a😀b");
    }

    #[test]
    fn bytes_that_are_no_text_become_the_replacement_character() {
        assert_eq!(decode(&[&[0xFF], b"x"]), "\u{FFFD}x");
        assert_eq!(decode(&[&[0xE2, 0x82], b"x"]), "\u{FFFD}x");
        assert_eq!(decode(&[b"x", &[0xE2, 0x82]]), "x\u{FFFD}");
        assert_eq!(decode(&[]), "");
    }

    #[test]
    fn every_splitting_decodes_as_the_whole() {
        let whole = "naïve — 😀 汉字".as_bytes();
        for split in 0..=whole.len() {
            assert_eq!(decode(&[&whole[..split], &whole[split..]]).as_bytes(), whole);
        }
    }

    #[test]
    fn a_stop_string_over_several_tokens_never_shows() {
        let (outs, stopped) = cut(&["END"], &["one E", "N", "D two"]);
        assert!(stopped);
        assert_eq!(outs, ["one ", "", ""]);
    }

    #[test]
    fn what_only_began_like_a_stop_string_is_given_back() {
        let (outs, stopped) = cut(&["END"], &["E", "N", "ough"]);
        assert!(!stopped);
        assert_eq!(outs.concat(), "ENough");
        let (outs, stopped) = cut(&["END"], &["the EN"]);
        assert!(!stopped);
        assert_eq!(outs.concat(), "the EN");
    }

    #[test]
    fn a_repeated_beginning_still_finds_the_stop_string() {
        let (outs, stopped) = cut(&["aab"], &["a", "a", "a", "b", "c"]);
        assert!(stopped);
        assert_eq!(outs.concat(), "a");
    }

    #[test]
    fn the_earliest_of_several_stop_strings_cuts() {
        let (outs, stopped) = cut(&["world", "lo"], &["hello world"]);
        assert!(stopped);
        assert_eq!(outs.concat(), "hel");
    }

    #[test]
    fn stop_strings_of_many_bytes_a_character_are_held_by_bytes_and_cut_at_characters() {
        let (outs, stopped) = cut(&["éé"], &["xé", "y", "éé"]);
        assert!(stopped);
        assert_eq!(outs.concat(), "xéy");
        // "è" shares its first byte with "é" and must not be cut in two.
        let (outs, stopped) = cut(&["é!"], &["è", "é"]);
        assert!(!stopped);
        assert_eq!(outs.concat(), "èé");
    }

    #[test]
    fn without_stop_strings_everything_passes_at_once() {
        assert_eq!(cut(&[], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    }
}
