//! What servers were seen to do, by model, whatever is known of them beforehand. It is remembered as long as the
//! process runs.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Models beyond this many are not remembered: their names may be a client's.
const MOST_MODELS: usize = 4096;

/// What one server was seen to do.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// By model, the fewest choices that a call brought which asked for more; 1 where it took no such call.
    choices: Mutex<HashMap<String, usize>>,
}

impl Habits {
    /// The most choices that a call is known to bring; `None` where no call brought fewer than it asked for.
    pub fn most_choices(&self, model: &str) -> Option<usize> {
        self.choices.lock().get(model).copied()
    }

    /// Notes that a call which asked for more brought so many choices; 1 for a call that was refused.
    pub fn brought(&self, model: &str, count: usize) {
        let mut choices = self.choices.lock();
        if let Some(most) = choices.get_mut(model) {
            *most = count.min(*most);
        } else if choices.len() < MOST_MODELS {
            choices.insert(model.to_owned(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_choices_that_came_are_remembered_for_each_model() {
        let habits = Habits::default();
        for (model, count) in [("a", 3), ("a", 5), ("b", 1)] {
            habits.brought(model, count);
        }
        let known = ["a", "b", "c"].map(|model| habits.most_choices(model));
        assert_eq!(known, [Some(3), Some(1), None]);
    }

    #[test]
    fn names_of_clients_do_not_fill_the_memory() {
        let habits = Habits::default();
        for number in 0..=MOST_MODELS {
            habits.brought(&number.to_string(), 1);
        }
        assert_eq!(habits.choices.lock().len(), MOST_MODELS);
        habits.brought("0", 1);
        assert_eq!((habits.most_choices("0"), habits.most_choices("new")), (Some(1), None));
    }
}
