//! How many prompt tokens a turn takes, learnt from how long turns took.
//!
//! A turn that takes long makes running streams halt, so that beside them prompts are read in pieces whose size follows
//! from the time that the last piece took. Where nobody generates, pieces are larger, and only as long as somebody who
//! comes meanwhile can be expected to wait.

use std::time::Duration;

/// Beside running candidates a turn should take no longer than this: a stream that halts for 150 ms is seen to halt, and
/// a turn now and then takes longer than was to be expected.
const BESIDE: Duration = Duration::from_millis(110);
/// Reading may add as much to a turn, however long the candidates alone take, and half of what these take.
const LEAST_ADDED: Duration = Duration::from_millis(20);
/// A turn in which only prompts are read. The longer, the faster they are read altogether (by a tenth between 400 ms and
/// two seconds), and the longer somebody waits who comes meanwhile.
const ALONE: Duration = Duration::from_millis(800);
/// The first pieces, which are small, since nothing is known of the machine.
const FIRST_BESIDE: f64 = 16.0;
const FIRST_ALONE: f64 = 128.0;
/// Fewer tokens than these take hardly less time than they, and while a prompt is read slowly the streams beside it grow, which
/// makes every turn longer: with four, a prompt of 4,000 tokens takes twice as long on two cores, and no stream halts less.
const LEAST: f64 = 8.0;
/// Who asks several things at once is read in one go, if the first waits for this part of the time that it will take, in
/// which nobody else comes, and for that part altogether. In pieces beside the first they would take far longer.
const QUIET_PART: f64 = 1.0 / 64.0;
const GATHERING_PART: f64 = 1.0 / 16.0;
/// Whoever asks several things at once does so within this time, and halts no longer than that in between.
const LONGEST_QUIET: Duration = Duration::from_millis(3);
const LONGEST_GATHERING: Duration = Duration::from_millis(24);

/// What has been learnt.
#[derive(Debug)]
pub(super) struct Pace {
    beside: f64,
    alone: f64,
    most: f64,
    /// Seconds of a turn in which nothing is read, of late.
    drawing: f64,
    /// Seconds that a prompt token takes where nobody generates, of late.
    reading: f64,
}

/// How long somebody who has come waits for others, so that they begin together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gathering {
    /// It is over when nobody has come for so long,
    pub(super) quiet: Duration,
    /// and at the latest after this.
    pub(super) most: Duration,
}

impl Pace {
    /// For batches of this many tokens.
    pub(super) fn new(batch_tokens: u32) -> Self {
        let most = f64::from(batch_tokens);
        Self { beside: FIRST_BESIDE.min(most), alone: FIRST_ALONE.min(most), most, drawing: 0.0, reading: 0.0 }
    }

    /// Prompt tokens that the next turn may take.
    pub(super) fn allowance(&self, beside_candidates: bool) -> usize {
        let tokens = if beside_candidates { self.beside } else { self.alone };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within a batch")]
        let tokens = tokens as usize;
        tokens.max(1)
    }

    /// How long somebody with so many prompt tokens to be read waits for others, when there was nothing to do until now.
    pub(super) fn gathering(&self, tokens: usize) -> Gathering {
        let expected = self.reading * tokens as f64;
        let part = |part: f64, most: Duration| Duration::from_secs_f64((expected * part).min(most.as_secs_f64()));
        Gathering { quiet: part(QUIET_PART, LONGEST_QUIET), most: part(GATHERING_PART, LONGEST_GATHERING) }
    }

    /// Takes into account how long a turn took that read so many prompt tokens. One that used little of its allowance
    /// says little of what the whole would take.
    pub(super) fn took(&mut self, beside_candidates: bool, tokens: usize, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if tokens == 0 && beside_candidates {
            self.drawing += (seconds - self.drawing) / 4.0;
        }
        if tokens > 0 && !beside_candidates {
            self.reading += (seconds / tokens as f64 - self.reading) / 4.0;
        }
        if tokens * 2 < self.allowance(beside_candidates) {
            return;
        }
        let (learnt, wanted, took) = if beside_candidates {
            let room = BESIDE.as_secs_f64() - self.drawing;
            let wanted = room.max(self.drawing / 2.0).max(LEAST_ADDED.as_secs_f64());
            (&mut self.beside, wanted, seconds - self.drawing)
        } else {
            (&mut self.alone, ALONE.as_secs_f64(), seconds)
        };
        // Quick to shrink, slow to grow: what is too long is noticed, what is too short is not.
        let factor = (wanted / took.max(1e-6)).clamp(0.25, 1.5);
        *learnt = (tokens as f64 * factor).clamp(LEAST.min(self.most), self.most);
    }
}

/// Divides `room` among readers that need `needs`, so that none gets less than another that could use more. The rest of a
/// division goes to the first.
pub(super) fn divide(room: usize, needs: &[usize]) -> Vec<usize> {
    let mut parts = vec![0; needs.len()];
    let mut left = room;
    loop {
        let hungry: Vec<usize> = (0..needs.len()).filter(|reader| parts[*reader] < needs[*reader]).collect();
        if hungry.is_empty() || left == 0 {
            return parts;
        }
        let each = (left / hungry.len()).max(1);
        for reader in hungry {
            let more = each.min(needs[reader] - parts[reader]).min(left);
            parts[reader] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_time_that_they_take() {
        let mut pace = Pace::new(512);
        // Five milliseconds a token: 22 of them take 110.
        for _ in 0..20 {
            let tokens = pace.allowance(true);
            pace.took(true, tokens, Duration::from_millis(5) * u32::try_from(tokens).unwrap());
        }
        assert!((20..=22).contains(&pace.allowance(true)), "{}", pace.allowance(true));
        assert_eq!(pace.allowance(false), 128, "what is learnt beside candidates says nothing of turns without");
        pace.took(true, pace.allowance(true), Duration::from_secs(10));
        assert_eq!(pace.allowance(true), 8);
        for _ in 0..50 {
            pace.took(true, pace.allowance(true), Duration::from_micros(10));
        }
        assert_eq!(pace.allowance(true), 512);
    }

    #[test]
    fn slow_candidates_leave_reading_a_part_of_the_turn() {
        let mut pace = Pace::new(512);
        for _ in 0..20 {
            pace.took(true, 0, Duration::from_millis(160));
        }
        // Two milliseconds a token: forty of them add half of what the candidates take.
        for _ in 0..20 {
            let tokens = pace.allowance(true);
            pace.took(true, tokens, Duration::from_millis(160 + 2 * tokens as u64));
        }
        assert!((36..=41).contains(&pace.allowance(true)), "{}", pace.allowance(true));
    }

    #[test]
    fn whoever_comes_waits_for_others_a_small_part_of_what_it_will_take() {
        let mut pace = Pace::new(512);
        let none = Gathering { quiet: Duration::ZERO, most: Duration::ZERO };
        assert_eq!(pace.gathering(1000), none, "nothing is known yet");
        for _ in 0..40 {
            pace.took(false, 64, Duration::from_millis(128));
        }
        let Gathering { quiet, most } = pace.gathering(64);
        assert!((1900..=2000).contains(&quiet.as_micros()) && (7900..=8000).contains(&most.as_micros()));
        assert_eq!(pace.gathering(0), none, "there is nothing to be read");
        assert_eq!(pace.gathering(1_000_000), Gathering { quiet: LONGEST_QUIET, most: LONGEST_GATHERING });
    }

    #[test]
    fn a_turn_that_read_little_teaches_nothing() {
        let mut pace = Pace::new(512);
        pace.took(false, 3, Duration::from_millis(1));
        assert_eq!(pace.allowance(false), 128);
        pace.took(false, 0, Duration::ZERO);
        assert_eq!(pace.allowance(false), 128);
    }

    #[test]
    fn a_small_batch_bounds_every_piece() {
        let mut pace = Pace::new(4);
        assert_eq!((pace.allowance(true), pace.allowance(false)), (4, 4));
        pace.took(true, 4, Duration::from_secs(1));
        assert_eq!(pace.allowance(true), 4);
    }

    #[test]
    fn room_is_divided_evenly_and_what_one_leaves_goes_to_the_others() {
        assert_eq!(divide(10, &[100, 100]), [5, 5]);
        assert_eq!(divide(10, &[2, 100]), [2, 8]);
        assert_eq!(divide(10, &[3, 3, 3]), [3, 3, 3]);
        assert_eq!(divide(2, &[9, 9, 9]), [1, 1, 0]);
        assert_eq!(divide(7, &[9, 9, 9]), [3, 2, 2]);
        assert_eq!(divide(0, &[9]), [0]);
        assert!(divide(5, &[]).is_empty());
    }
}
