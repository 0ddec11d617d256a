//! What one candidate votes for.

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

    /// The name of the class, as it stands in `response_counts`.
    pub fn label(&self) -> String {
        match (self.levels.as_slice(), &self.fields) {
            ([only], _) => only.clone(),
            (_, Some(fields)) => unwrapped(fields),
            (levels, None) => format!("[{}]", levels.join(",")),
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
