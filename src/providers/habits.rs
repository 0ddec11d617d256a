//! What has been learnt of the models at an origin: what they do besides what their provider says.

use std::sync::Arc;

use parking_lot::Mutex;

/// So many models are remembered. Clients may be free to name any.
const MOST_MODELS: usize = 256;

/// What the models at one origin were seen to do.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// The fewest choices that a model brought to a call which asked for more; 1 where it refused such a call.
    choices: Mutex<Vec<(Arc<str>, usize)>>,
}

impl Habits {
    /// The most choices that a call is known to bring, at least 1; `None` where no call brought fewer than it asked for.
    pub fn most_choices(&self, model: &str) -> Option<usize> {
        self.choices.lock().iter().find_map(|(known, most)| (**known == *model).then_some(*most))
    }

    /// Notes that a call which asked for more brought so many choices, or that it was refused.
    pub fn brought(&self, model: &str, count: usize) {
        let mut choices = self.choices.lock();
        if let Some((_, most)) = choices.iter_mut().find(|(known, _)| **known == *model) {
            *most = count.max(1).min(*most);
            return;
        }
        if choices.len() >= MOST_MODELS {
            choices.remove(0);
        }
        choices.push((model.into(), count.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_choices_that_came_are_remembered_for_each_model() {
        let habits = Habits::default();
        for (model, count) in [("a", 3), ("a", 5), ("b", 0)] {
            habits.brought(model, count);
        }
        let known = ["a", "b", "c"].map(|model| habits.most_choices(model));
        assert_eq!(known, [Some(3), Some(1), None]);
    }

    #[test]
    fn so_many_models_are_remembered_and_the_oldest_forgotten() {
        let habits = Habits::default();
        for number in 0..1000 {
            habits.brought(&number.to_string(), 1);
        }
        assert_eq!((habits.most_choices("999"), habits.most_choices("0")), (Some(1), None));
        assert!(habits.choices.lock().len() <= MOST_MODELS);
    }
}
