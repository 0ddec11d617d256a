//! Whatever is asked of the layer, the process lives, and what can be told of the cache stays true.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_2::model::params::LlamaModelParams;
use proptest::prelude::*;

use super::*;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf");
const SEQUENCES: u32 = 8;
const BATCH: u32 = 16;

static LOADED: LazyLock<LlamaModel> = LazyLock::new(|| {
    let params = LlamaModelParams::default();
    LlamaModel::load_from_file(crate::llama::backend(), MODEL, &params).unwrap()
});

#[derive(Default)]
struct Switch(AtomicBool);

impl Interrupt for Switch {
    fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn context(interrupt: &Arc<Switch>) -> CheckedContext<'static> {
    // Contexts of one model are not made at the same time.
    static MAKING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _making = MAKING.lock();
    let shape = ContextShape { cells: 256, sequences: SEQUENCES, batch_tokens: BATCH, threads: 1 };
    let interrupt: Arc<dyn Interrupt> = interrupt.clone();
    CheckedContext::new(crate::llama::backend(), &LOADED, shape, interrupt).unwrap()
}

#[derive(Debug, Clone)]
enum Call {
    Push {
        sequence: u32,
        token: i32,
        wants_logits: bool,
    },
    Evaluate,
    EvaluateInterrupted,
    Clear,
    Logits(i32),
    Share {
        from: u32,
        to: u32,
        length: u32,
    },
    ReplaceBeginning {
        from: u32,
        to: u32,
        length: u32,
    },
    Truncate {
        sequence: u32,
        length: u32,
    },
    Remove(u32),
    Save(u32),
    /// Of those saved so far, counted from the last one.
    Restore {
        number: usize,
        sequence: u32,
    },
    Reset,
}

fn sequence() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0..SEQUENCES, 1 => SEQUENCES..300, 1 => Just(u32::MAX)]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0..24u32, 1 => 200..400u32, 1 => Just(u32::MAX)]
}

fn call() -> impl Strategy<Value = Call> {
    let token = prop_oneof![20 => 0..100i32, 1 => Just(-1), 1 => Just(i32::MAX), 1 => Just(i32::MIN)];
    prop_oneof![
        20 => (sequence(), token, any::<bool>())
            .prop_map(|(sequence, token, wants_logits)| Call::Push { sequence, token, wants_logits }),
        6 => Just(Call::Evaluate),
        2 => Just(Call::EvaluateInterrupted),
        6 => Just(Call::Clear),
        4 => (-2..20i32).prop_map(Call::Logits),
        6 => (sequence(), sequence(), length()).prop_map(|(from, to, length)| Call::Share { from, to, length }),
        3 => (sequence(), sequence(), length())
            .prop_map(|(from, to, length)| Call::ReplaceBeginning { from, to, length }),
        4 => (sequence(), length()).prop_map(|(sequence, length)| Call::Truncate { sequence, length }),
        2 => sequence().prop_map(Call::Remove),
        3 => sequence().prop_map(Call::Save),
        3 => (0..4usize, sequence()).prop_map(|(number, sequence)| Call::Restore { number, sequence }),
        1 => Just(Call::Reset),
    ]
}

/// What the layer should hold.
#[derive(Debug, Default)]
struct Expected {
    lengths: Vec<u32>,
    batch: Vec<(u32, bool)>,
    evaluated: bool,
    saved: Vec<(Saved, u32)>,
}

impl Expected {
    fn take_back(&mut self) {
        for (sequence, _) in std::mem::take(&mut self.batch) {
            self.lengths[sequence as usize] -= 1;
        }
    }

    fn length(&self, sequence: u32) -> Option<u32> {
        self.lengths.get(sequence as usize).copied()
    }

    fn is_pending(&self) -> bool {
        !self.evaluated && !self.batch.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_calls_end_the_process_and_every_error_leaves_what_was(calls in prop::collection::vec(call(), 1..120)) {
        let switch = Arc::new(Switch::default());
        let mut context = context(&switch);
        let mut expected = Expected { lengths: vec![0; SEQUENCES as usize], ..Expected::default() };
        for call in calls {
            match call {
                Call::Push { sequence, token, wants_logits } => {
                    let pushed = context.push(SequenceId(sequence), LlamaToken(token), wants_logits);
                    let is_known = (0..context.vocabulary_size).contains(&token);
                    let fits = !expected.evaluated && expected.batch.len() < BATCH as usize;
                    let length = expected.length(sequence);
                    let may = is_known && fits && length.is_some_and(|length| length < 256);
                    prop_assert_eq!(pushed.is_ok(), may, "{:?}", pushed);
                    if may {
                        prop_assert_eq!(pushed.unwrap(), expected.batch.len() as i32);
                        expected.batch.push((sequence, wants_logits));
                        expected.lengths[sequence as usize] += 1;
                    }
                }
                Call::Evaluate => match context.evaluate() {
                    Ok(()) => expected.evaluated |= !expected.batch.is_empty(),
                    Err(error) => {
                        // Sequences together may need more cells than there are.
                        prop_assert_eq!(error, ContextError::NoRoom);
                        expected.take_back();
                    }
                },
                Call::EvaluateInterrupted => {
                    switch.0.store(true, Ordering::Relaxed);
                    let evaluated = context.evaluate();
                    switch.0.store(false, Ordering::Relaxed);
                    match evaluated {
                        Ok(()) => prop_assert!(!expected.is_pending()),
                        Err(error) => {
                            prop_assert!(matches!(error, ContextError::Interrupted | ContextError::NoRoom), "{error}");
                            expected.take_back();
                        }
                    }
                }
                Call::Clear => {
                    context.clear_batch();
                    if expected.evaluated {
                        expected.batch.clear();
                    }
                    expected.take_back();
                    expected.evaluated = false;
                }
                Call::Logits(row) => {
                    let wanted = usize::try_from(row).ok().and_then(|row| expected.batch.get(row));
                    let may = expected.evaluated && wanted.is_some_and(|(_, wanted)| *wanted);
                    let logits = context.logits(row);
                    prop_assert_eq!(logits.is_ok(), may);
                    if let Ok(logits) = logits {
                        prop_assert!(logits.len() == LOADED.n_vocab() as usize && logits.iter().all(|it| it.is_finite()));
                    }
                }
                Call::Share { from, to, length } => {
                    let shared = context.share(SequenceId(from), SequenceId(to), length);
                    let may = !expected.is_pending()
                        && from != to
                        && length > 0
                        && expected.length(from).is_some_and(|held| held >= length)
                        && expected.length(to) == Some(0);
                    prop_assert_eq!(shared.is_ok(), may, "{:?}", shared);
                    if may {
                        expected.lengths[to as usize] = length;
                    }
                }
                Call::ReplaceBeginning { from, to, length } => {
                    let replaced = context.replace_beginning(SequenceId(from), SequenceId(to), length);
                    let has = |sequence| expected.length(sequence).is_some_and(|held| held >= length);
                    let may = !expected.is_pending() && from != to && length > 0 && has(from) && has(to);
                    prop_assert_eq!(replaced.is_ok(), may, "{:?}", replaced);
                }
                Call::Truncate { sequence, length } => {
                    let truncated = context.truncate(SequenceId(sequence), length);
                    let may = !expected.is_pending() && expected.length(sequence).is_some_and(|held| held >= length);
                    prop_assert_eq!(truncated.is_ok(), may, "{:?}", truncated);
                    if may {
                        expected.lengths[sequence as usize] = length;
                    }
                }
                Call::Remove(sequence) => {
                    let may = !expected.is_pending() && expected.length(sequence).is_some();
                    prop_assert_eq!(context.remove(SequenceId(sequence)).is_ok(), may);
                    if may {
                        expected.lengths[sequence as usize] = 0;
                    }
                }
                Call::Save(sequence) => {
                    let saved = context.save(SequenceId(sequence));
                    let length = expected.length(sequence).filter(|length| *length > 0 && !expected.is_pending());
                    prop_assert_eq!(saved.is_ok(), length.is_some(), "{:?}", saved.err());
                    let bytes = context.saved_bytes(SequenceId(sequence));
                    prop_assert_eq!(bytes.is_ok(), length.is_some());
                    if let (Ok(saved), Some(length)) = (saved, length) {
                        prop_assert_eq!(bytes, Ok(saved.bytes()));
                        expected.saved.push((saved, length));
                    }
                }
                Call::Restore { number, sequence } => {
                    let Some((saved, length)) = expected.saved.iter().rev().nth(number) else { continue };
                    let restored = context.restore(saved, SequenceId(sequence));
                    let may = !expected.is_pending() && expected.length(sequence) == Some(0);
                    // Sequences together may need more cells than there are.
                    prop_assert_eq!(restored.is_ok() || restored == Err(ContextError::NoRoom), may, "{:?}", restored);
                    if restored.is_ok() {
                        expected.lengths[sequence as usize] = *length;
                    }
                }
                Call::Reset => {
                    context.reset();
                    let saved = expected.saved;
                    expected = Expected { lengths: vec![0; SEQUENCES as usize], saved, ..Expected::default() };
                }
            }
            for sequence in 0..SEQUENCES {
                prop_assert_eq!(context.length(SequenceId(sequence)).ok(), expected.length(sequence));
            }
        }
    }
}

/// The logits after these tokens.
fn after(context: &mut CheckedContext<'_>, sequence: u32, tokens: &[i32]) -> Vec<f32> {
    context.clear_batch();
    let mut row = 0;
    for (position, token) in tokens.iter().enumerate() {
        row = context.push(SequenceId(sequence), LlamaToken(*token), position + 1 == tokens.len()).unwrap();
    }
    context.evaluate().unwrap();
    context.logits(row).unwrap().to_vec()
}

#[test]
fn an_interrupted_evaluation_leaves_the_cache_as_it_was() {
    let switch = Arc::new(Switch::default());
    let (mut spared, mut interrupted) = (context(&switch), context(&switch));
    let expected = [after(&mut spared, 0, &[5, 6, 7]), after(&mut spared, 0, &[8, 9])];
    let first = after(&mut interrupted, 0, &[5, 6, 7]);
    interrupted.clear_batch();
    for token in [20, 21, 22] {
        interrupted.push(SequenceId(0), LlamaToken(token), true).unwrap();
        interrupted.push(SequenceId(1), LlamaToken(token), true).unwrap();
    }
    switch.0.store(true, Ordering::Relaxed);
    assert_eq!(interrupted.evaluate(), Err(ContextError::Interrupted));
    switch.0.store(false, Ordering::Relaxed);
    assert_eq!(interrupted.length(SequenceId(1)), Ok(0));
    assert_eq!([first, after(&mut interrupted, 0, &[8, 9])], expected);
    assert_eq!(interrupted.evaluated_tokens(), 5);
}

#[test]
fn what_is_shared_and_what_is_cut_off_goes_on_as_if_it_had_been_alone() {
    let switch = Arc::new(Switch::default());
    let (mut alone, mut shared) = (context(&switch), context(&switch));
    after(&mut alone, 0, &[5, 6]);
    let expected = after(&mut alone, 0, &[9]);
    after(&mut shared, 0, &[5, 6]);
    after(&mut shared, 0, &[7]);
    shared.share(SequenceId(0), SequenceId(3), 2).unwrap();
    assert_eq!(after(&mut shared, 3, &[9]), expected);
    shared.truncate(SequenceId(0), 2).unwrap();
    assert_eq!(after(&mut shared, 0, &[9]), expected);
    assert_eq!(shared.evaluated_tokens(), 5);
}

#[test]
fn what_was_saved_goes_on_where_it_is_restored_as_if_it_had_stayed() {
    let switch = Arc::new(Switch::default());
    let mut context = context(&switch);
    after(&mut context, 0, &[5, 6, 7]);
    context.share(SequenceId(0), SequenceId(1), 2).unwrap();
    after(&mut context, 1, &[8]);
    let saved = context.save(SequenceId(1)).unwrap();
    let expected = [after(&mut context, 1, &[9]), after(&mut context, 0, &[9])];
    for sequence in [0, 1] {
        context.remove(SequenceId(sequence)).unwrap();
    }
    // Cells lie otherwise then.
    after(&mut context, 2, &[11, 12, 13, 14]);
    context.restore(&saved, SequenceId(3)).unwrap();
    context.restore(&saved, SequenceId(4)).unwrap();
    assert_eq!((context.length(SequenceId(3)), context.length(SequenceId(4))), (Ok(3), Ok(3)));
    assert_eq!(after(&mut context, 3, &[9]), expected[0]);
    // Cells in another order are added up in another order.
    context.restore(&saved, SequenceId(5)).unwrap();
    context.replace_beginning(SequenceId(4), SequenceId(5), 2).unwrap();
    assert_eq!(context.length(SequenceId(5)), Ok(3));
    let after_both = after(&mut context, 5, &[9]);
    let far = |other: &[f32]| after_both.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(far(&expected[0]) < 0.02 * far(&expected[1]), "{} and {}", far(&expected[0]), far(&expected[1]));
    context.truncate(SequenceId(4), 2).unwrap();
    after(&mut context, 4, &[7]);
    assert_eq!(after(&mut context, 4, &[9]), expected[1]);
    assert_eq!(context.restore(&saved, SequenceId(3)), Err(ContextError::NotEmpty(3)));
    assert_eq!(context.save(SequenceId(7)).unwrap_err(), ContextError::NotSaved(7));
}
