//! The most typical of several texts, for prose in which no two are equal.
//!
//! Each text is the set of its distinct words, lower case. The overlap of two texts is |A∩B| / √(|A|·|B|), the
//! cosine of their sets. Unlike Jaccard's index it can be summed over all others at once, so that the medoid of
//! n texts costs time linear in their words instead of n² comparisons.

use std::collections::{HashMap, HashSet};

/// Overlap sums closer than this are equal; rounding alone makes such differences.
const EPSILON: f64 = 1e-9;

/// How much of a text is read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The position of the text that overlaps most with all others; the first of several. `None` for no texts.
pub(super) fn medoid(texts: &[&str]) -> Option<usize> {
    let sets: Vec<Vec<u32>> = word_sets(texts);
    let words = sets.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let mut mass = vec![0.0; words];
    for set in &sets {
        let share = 1.0 / (set.len() as f64).sqrt();
        set.iter().for_each(|word| mass[*word as usize] += share);
    }
    let typicality = |set: &Vec<u32>| {
        let sum: f64 = set.iter().map(|word| mass[*word as usize]).sum();
        if set.is_empty() { 0.0 } else { sum / (set.len() as f64).sqrt() }
    };
    let mut best: Option<(usize, f64)> = None;
    for (position, set) in sets.iter().enumerate() {
        let sum = typicality(set);
        if best.is_none_or(|(_, leading)| sum > leading + EPSILON) {
            best = Some((position, sum));
        }
    }
    best.map(|(position, _)| position)
}

/// Each text as the sorted numbers of its distinct words; words are numbered in order of appearance.
fn word_sets(texts: &[&str]) -> Vec<Vec<u32>> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut sets = Vec::with_capacity(texts.len());
    for text in texts {
        let mut set: HashSet<u32> = HashSet::new();
        for word in words(text) {
            let next = numbers.len() as u32;
            set.insert(*numbers.entry(word).or_insert(next));
        }
        let mut sorted: Vec<u32> = set.into_iter().collect();
        sorted.sort_unstable();
        sets.push(sorted);
    }
    sets
}

/// Runs of letters and digits; each character of a script without spaces is a word of its own.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut end = text.len().min(READ_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).flat_map(|run| {
        if run.contains(is_unspaced) { run.chars().map(String::from).collect() } else { vec![run.to_lowercase()] }
    })
}

/// Chinese, Japanese and Korean characters.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_that_shares_most_words_with_the_others_wins() {
        let texts = ["Bananas are yellow", "The sky is blue today", "The sky is blue", "the SKY is very blue"];
        assert_eq!(medoid(&texts), Some(2));
    }

    #[test]
    fn overlap_is_the_cosine_of_word_sets() {
        // {a,b}, {a,b,c,d}, {a}: sums of cosines with the others are
        // 2/√8 + 1/√2 = 1.4142, 2/√8 + 1/√4 = 1.2071, 1/√2 + 1/√4 = 1.2071.
        assert_eq!(medoid(&["a b c d", "a", "b a"]), Some(2));
    }

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(medoid(&["a b", "c d", "a b", "d c"]), Some(0));
        assert_eq!(medoid(&["x", "y", "z"]), Some(0));
    }

    #[test]
    fn texts_without_words_lose_to_any_with() {
        assert_eq!(medoid(&["?!", "", "word"]), Some(2));
        assert_eq!(medoid(&["?!", ""]), Some(0));
        assert_eq!(medoid(&[]), None);
    }

    #[test]
    fn scripts_without_spaces_are_compared_by_character() {
        assert_eq!(medoid(&["香蕉是黄色的", "天空是蓝色", "天空很蓝"]), Some(1));
    }

    proptest! {
        #[test]
        fn some_text_is_always_the_most_typical(texts in prop::collection::vec(".{0,20}", 1..8)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert!(medoid(&texts).is_some_and(|position| position < texts.len()));
        }
    }
}
