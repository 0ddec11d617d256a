//! What one candidate votes for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::answer::Json;

/// A candidate's vote. Two candidates are in one class exactly when all their levels are equal; a vote goes
/// through the levels in order.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub levels: Vec<String>,
    /// What is compared field by field where no two candidates agree on the whole.
    pub fields: Option<Json>,
}

impl Key {
    pub fn single(level: String) -> Self {
        Self { levels: vec![level], fields: None }
    }

    #[cfg(test)]
    pub fn label(self) -> String {
        Numbering::default().number(self).label()
    }
}

/// A key that has been read for the last time: its levels are compared as numbers, however long their texts are.
#[derive(Debug, Clone)]
pub(super) struct NumberedKey {
    /// One number a level, the same for the same text. Only keys of one [`Numbering`] can be compared.
    pub levels: Vec<u32>,
    pub fields: Option<Json>,
    /// The texts, which all members of a class share.
    texts: Vec<Arc<str>>,
}

impl NumberedKey {
    /// The name of the class, as it stands in `response_counts`.
    pub fn label(&self) -> String {
        match (self.texts.as_slice(), &self.fields) {
            ([only], _) => only.to_string(),
            (_, Some(fields)) => unwrapped(fields),
            (texts, None) => format!("[{}]", texts.join(",")),
        }
    }
}

/// The numbers of the texts of each level, in the order in which they came. Every text is hashed once, since stop
/// rules look at all votes again whenever a candidate ends.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    levels: Vec<HashMap<Arc<str>, u32>>,
}

impl Numbering {
    pub fn number(&mut self, key: Key) -> NumberedKey {
        let Key { levels, fields } = key;
        if self.levels.len() < levels.len() {
            self.levels.resize_with(levels.len(), HashMap::new);
        }
        let (levels, texts) = self.levels.iter_mut().zip(levels).map(|(known, text)| numbered(known, text)).unzip();
        NumberedKey { levels, fields, texts }
    }
}

fn numbered(known: &mut HashMap<Arc<str>, u32>, text: String) -> (u32, Arc<str>) {
    let text: Arc<str> = text.into();
    let next = u32::try_from(known.len()).expect("a run has fewer candidates than there are numbers");
    match known.entry(text) {
        std::collections::hash_map::Entry::Occupied(entry) => (*entry.get(), Arc::clone(entry.key())),
        std::collections::hash_map::Entry::Vacant(entry) => {
            let text = Arc::clone(entry.key());
            (*entry.insert(next), text)
        }
    }
}

/// The canonical text of a list, or of its element where it has only one: most messages make one call.
pub(super) fn unwrapped(list: &Json) -> String {
    match list {
        // An element that is itself a list would read as several.
        Json::List(items) if items.len() == 1 && !matches!(items[0], Json::List(_)) => items[0].to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_number_a_level_and_is_kept_once() {
        let mut numbering = Numbering::default();
        let mut number = |levels: &[&str]| {
            numbering.number(Key { levels: levels.iter().map(|level| (*level).to_owned()).collect(), fields: None })
        };
        let keys = [number(&["f", "1"]), number(&["g", "f"]), number(&["f", "f"])];
        assert_eq!(keys.each_ref().map(|key| key.levels.as_slice()), [&[0, 0], &[1, 1], &[0, 1]]);
        assert!(Arc::ptr_eq(&keys[0].texts[0], &keys[2].texts[0]));
        assert_eq!(keys[2].label(), "[f,f]");
        // A number says nothing outside its level.
        assert_eq!((numbering.levels[0].len(), numbering.levels[1].len()), (2, 2));
    }
}
