//! What has been learnt of the models at an origin: what they do besides what their provider says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many models are remembered. Clients may be free to name any.
const MOST_MODELS: usize = 256;
/// So long is anything remembered: a server is changed or mended some day, and nobody tells.
const MEMORY: Duration = Duration::from_mins(10);

/// What the models at one origin were seen to do.
#[derive(Debug, Default)]
pub(super) struct Habits {
    models: Mutex<Vec<(Arc<str>, Choices)>>,
}

/// How many choices the calls to one model bring.
#[derive(Debug, Default)]
struct Choices {
    /// The most that a call is taken to bring.
    most: Option<Seen>,
    /// What the last call brought that brought several, but fewer than it asked for. Once may be chance, such as a
    /// choice that was filtered.
    short: Option<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    count: usize,
    at: Instant,
}

impl Seen {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < MEMORY
    }
}

impl Habits {
    /// The most choices that a call is known to bring, at least 1; `None` where nothing is known to bring fewer than it
    /// asks for.
    pub fn most_choices(&self, model: &str, now: Instant) -> Option<usize> {
        let models = self.models.lock();
        let (_, choices) = models.iter().find(|(known, _)| **known == *model)?;
        choices.most.filter(|seen| seen.is_fresh(now)).map(|seen| seen.count)
    }

    /// Notes how many choices came of a call that asked for several. A single one says that the server does not know
    /// of `n`; several, but fewer than were asked for, have to come so twice, with no call between that brought more.
    pub fn brought(&self, model: &str, asked: usize, count: usize, now: Instant) {
        let seen = Seen { count, at: now };
        if count >= asked {
            let mut models = self.models.lock();
            if let Some((_, choices)) = models.iter_mut().find(|(known, _)| **known == *model) {
                choices.short = choices.short.filter(|short| short.count >= count);
            }
            return;
        }
        if count <= 1 {
            return self.refused(model, now);
        }
        self.note(model, |choices| {
            if let Some(before) = choices.short.replace(seen).filter(|before| before.is_fresh(now)) {
                let known = choices.most.filter(|most| most.is_fresh(now)).map_or(usize::MAX, |most| most.count);
                choices.most = Some(Seen { count: before.count.max(count).min(known), at: now });
            }
        });
    }

    /// Notes that a call was refused because it asked for several.
    pub fn refused(&self, model: &str, now: Instant) {
        self.note(model, |choices| choices.most = Some(Seen { count: 1, at: now }));
    }

    fn note(&self, model: &str, enter: impl FnOnce(&mut Choices)) {
        let mut models = self.models.lock();
        if let Some((_, choices)) = models.iter_mut().find(|(known, _)| **known == *model) {
            return enter(choices);
        }
        if models.len() >= MOST_MODELS {
            models.remove(0);
        }
        let mut choices = Choices::default();
        enter(&mut choices);
        models.push((model.into(), choices));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_choice_and_a_refusal_are_believed_at_once_and_only_of_the_model_that_was_asked() {
        let (habits, now) = (Habits::default(), Instant::now());
        habits.brought("a", 5, 1, now);
        habits.brought("b", 5, 0, now);
        habits.refused("c", now);
        habits.brought("d", 5, 5, now);
        let known = ["a", "b", "c", "d", "e"].map(|model| habits.most_choices(model, now));
        assert_eq!(known, [Some(1), Some(1), Some(1), None, None]);
    }

    #[test]
    fn fewer_choices_than_were_asked_for_have_to_come_twice() {
        let (habits, now) = (Habits::default(), Instant::now());
        let after = |asked, count| {
            habits.brought("a", asked, count, now);
            habits.most_choices("a", now)
        };
        assert_eq!(after(8, 7), None, "one may have been filtered");
        assert_eq!(after(8, 8), None);
        assert_eq!(after(8, 7), None, "there was a whole one between");
        assert_eq!(after(2, 2), None);
        assert_eq!(after(8, 4), Some(7), "the two that were asked for tell nothing of the seven");
        assert_eq!(after(7, 4), Some(4));
        assert_eq!(after(4, 4), Some(4));
        assert_eq!(after(8, 6), Some(4), "a call that was begun before that was known");
        assert_eq!(after(4, 1), Some(1));
    }

    #[test]
    fn what_was_seen_is_forgotten_after_a_while() {
        let (habits, begin) = (Habits::default(), Instant::now());
        let (late, too_late) = (begin + MEMORY - Duration::from_secs(1), begin + MEMORY);
        habits.refused("a", begin);
        assert_eq!((habits.most_choices("a", late), habits.most_choices("a", too_late)), (Some(1), None));
        habits.refused("a", late);
        assert_eq!(habits.most_choices("a", too_late), Some(1), "it was seen again");
        habits.brought("b", 8, 7, begin);
        habits.brought("b", 8, 7, too_late);
        assert_eq!(habits.most_choices("b", too_late), None, "not twice within that time");
        habits.brought("b", 8, 7, too_late);
        assert_eq!(habits.most_choices("b", too_late), Some(7));
    }

    #[test]
    fn so_many_models_are_remembered_and_the_oldest_forgotten() {
        let (habits, now) = (Habits::default(), Instant::now());
        for number in 0..1000 {
            habits.refused(&number.to_string(), now);
        }
        assert_eq!((habits.most_choices("999", now), habits.most_choices("0", now)), (Some(1), None));
        assert!(habits.models.lock().len() <= MOST_MODELS);
    }
}
