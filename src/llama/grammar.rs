//! Holding candidates to a form: a JSON Schema, a grammar or a regular expression.
//!
//! A form is compiled once a request, which is where it is refused, and a candidate then carries the state of its
//! text in it. Of each state llguidance tells which tokens may come next. That takes up to milliseconds for a large
//! vocabulary, so a thread of its own works it out while the model computes the next logits.
//!
//! Every compilation and every step is bounded by llguidance's fuel, states and grammar size; a form that needs more
//! is refused, or ends the candidate with an error, and never with an answer that breaks it.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, panic_utils};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use numbers::Place;

mod numbers;

/// The tokens that may come next.
pub(super) type Allowed = SimpleVob;

/// A form may have this many bytes of text.
const MAX_FORM_BYTES: usize = 128 << 10;

/// Bytes of a message of llguidance's that are passed on: it quotes the form.
const MAX_MESSAGE_BYTES: usize = 400;

/// References are followed by recursion, at worst one for every few bytes of a schema. The memory is only taken as far
/// as it is used.
const COMPILER_STACK_BYTES: usize = 128 << 20;

/// Between the lexemes of JSON: one space, or a line break or two and an indentation. Without end, a model that has lost
/// its way would write spaces until its length limit.
const JSON_SPACE: &str = r" |\n{1,2}[ \t]{0,20}";

/// The least common multiple of all `multipleOf` of a schema, less powers of ten: that many states count remainders.
const MOST_REMAINDERS: u64 = 10_000;

/// What is refused in a grammar: numbers of tokens and bytes that are no text would say something else than what is read
/// in the end, and a schema belongs where it is checked.
const NOT_IN_GRAMMARS: [&str; 3] = ["allow_invalid_utf8", "<[", "%json"];

/// The greatest integer up to which all are told apart by the numbers that schemas are compiled with.
const MAX_EXACT: u64 = 1 << 53;

/// What an answer must match as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// A JSON Schema, an object.
    Schema(Json),
    /// A grammar in llguidance's variant of Lark.
    Grammar(String),
    /// A regular expression in the syntax of the `regex` crate.
    Regex(String),
}

/// Why a form cannot be kept, in words that say what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct FormError(String);

/// Compiles forms for one vocabulary.
pub(super) struct Grammars {
    factory: ParserFactory,
    masks: Sender<Work>,
    /// Printable ASCII characters that no token spells.
    unspellable: String,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Grammars").field("unspellable", &self.unspellable).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Takes the text of each token, empty for those that are none, and the tokens that end an answer.
    ///
    /// # Errors
    ///
    /// When the vocabulary or the thread cannot be set up.
    pub(super) fn new(texts: &[Vec<u8>], ends: &[u32]) -> Result<Self, FormError> {
        let failed = |error: &dyn std::fmt::Display| FormError(format!("grammars cannot be set up: {error}"));
        let size = u32::try_from(texts.len()).map_err(|error| failed(&error))?;
        let is_spelt = |byte: &u8| texts.iter().any(|text| text[..] == [*byte]);
        let unspellable = (b' '..=b'~').filter(|byte| !is_spelt(byte)).map(char::from).collect();
        let factory = panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut trie = TokTrie::from(&TokRxInfo::new(size, INVALID_TOKEN), texts);
            if !ends.is_empty() {
                trie = trie.with_eos_tokens(ends);
            }
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new_simple(&environment)
        }));
        let mut factory = factory.map_err(|error| failed(&first_line(&error.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            // Each state takes one to two kilobytes.
            max_lexer_states: 50_000,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let (masks, work) = mpsc::channel();
        std::thread::Builder::new()
            .name("llama-masks".into())
            .spawn(move || compute_masks(&work))
            .map_err(|error| failed(&error))?;
        Ok(Self { factory, masks, unspellable })
    }

    /// Compiles a form, which takes up to some hundred milliseconds.
    ///
    /// # Errors
    ///
    /// What is wrong with it, what of it cannot be kept, or that it is too large.
    pub(super) fn compile(&self, form: &Form) -> Result<Compiled, FormError> {
        let grammar = self.read(form)?;
        // Hostile forms nest deeper than the stack of any other thread allows.
        let compiled = std::thread::scope(|scope| {
            let compile = || -> Result<(Follower, Allowed), String> {
                let parser =
                    panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| self.factory.create_parser(grammar)));
                let place = matches!(form, Form::Schema(_)).then(Place::default);
                let environment = self.factory.tok_env().clone();
                let mut follower = Follower { matcher: Matcher::new(parser), place, environment };
                let allowed = follower.allowed()?;
                Ok((follower, allowed))
            };
            let thread = std::thread::Builder::new().stack_size(COMPILER_STACK_BYTES).spawn_scoped(scope, compile);
            thread.map_err(|error| error.to_string())?.join().unwrap_or_else(|_| Err("panic".into()))
        });
        let (follower, allowed) = compiled.map_err(|error| FormError(self.explain(&error)))?;
        Ok(Compiled { follower: Mutex::new(follower), allowed, masks: self.masks.clone() })
    }

    fn read(&self, form: &Form) -> Result<TopLevelGrammar, FormError> {
        let check_size = |bytes: usize| match bytes {
            ..=MAX_FORM_BYTES => Ok(()),
            _ => Err(FormError(format!("it has {bytes} bytes; at most {MAX_FORM_BYTES} are taken"))),
        };
        match form {
            Form::Schema(schema) => {
                check_size(schema.to_string().len())?;
                if let Some(missing) =
                    r#"{}[]":,-0123456789truefalsn"#.chars().find(|it| self.unspellable.contains(*it))
                {
                    return Err(FormError(format!(
                        "the model's vocabulary cannot spell `{missing}`, which JSON needs"
                    )));
                }
                check(schema, &mut 1)?;
                let mut schema = schema.clone();
                let Some(members) = schema.as_object_mut() else {
                    return Err(FormError("the schema must be an object".into()));
                };
                if members.contains_key("x-guidance") {
                    return Err(FormError("`x-guidance` is not taken; leave it out".into()));
                }
                members.insert("x-guidance".into(), json!({ "whitespace_pattern": JSON_SPACE }));
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
            Form::Grammar(text) => {
                check_size(text.len())?;
                if text.contains("::=") {
                    let message = "it must be a Lark grammar, which begins with `start: ...`; this is GBNF, \
                                   which is not taken";
                    return Err(FormError(message.into()));
                }
                if let Some(word) = NOT_IN_GRAMMARS.iter().find(|word| text.contains(**word)) {
                    return Err(FormError(format!("`{word}` is not taken in a grammar")));
                }
                Ok(TopLevelGrammar::from_lark(text.clone()))
            }
            Form::Regex(text) => {
                check_size(text.len())?;
                Ok(TopLevelGrammar::from_regex(text))
            }
        }
    }

    /// What llguidance says, for a client.
    fn explain(&self, error: &str) -> String {
        if error.contains("NoExtensionBias") {
            let missing = match self.unspellable.as_str() {
                "" => String::new(),
                missing => format!(", which has no `{missing}`"),
            };
            return format!(
                "no token may come first: it matches nothing, or nothing that the vocabulary spells{missing}"
            );
        }
        first_line(error)
    }
}

/// A form that was compiled, with the state in which every candidate begins.
pub(super) struct Compiled {
    follower: Mutex<Follower>,
    allowed: Allowed,
    masks: Sender<Work>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Compiled {
    /// The state of a candidate that has no text yet.
    pub(super) fn begin(&self) -> Constraint {
        // Clones share what was learnt of the form's expressions.
        let follower = Box::new(self.follower.lock().clone());
        Constraint { state: State::Here(follower, self.allowed.clone()), masks: self.masks.clone() }
    }
}

/// The state of a text in its form.
#[derive(Clone)]
struct Follower {
    matcher: Matcher,
    /// Where a JSON text has come to.
    place: Option<Place>,
    environment: TokEnv,
}

impl Follower {
    fn allowed(&mut self) -> Result<Allowed, String> {
        let mut allowed = self.matcher.compute_mask().map_err(|error| error.to_string())?;
        if let Some(place) = self.place.filter(|place| place.is_in_number()) {
            let tokens = self.environment.tok_trie();
            let too_long: Vec<u32> =
                allowed.iter().filter(|token| place.after(tokens.token(*token)).is_none()).collect();
            // A schema may ask for a number of this length.
            if too_long.len() < allowed.num_set() {
                too_long.into_iter().for_each(|token| allowed.disallow_token(token));
            }
        }
        Ok(allowed)
    }

    fn accept(&mut self, token: u32) -> Result<Progress, String> {
        self.matcher.consume_token(token).map_err(|error| error.to_string())?;
        self.place = self.place.map(|place| place.after(self.environment.tok_trie().token(token)).unwrap_or(place));
        match self.matcher.is_stopped() {
            false => Ok(Progress::GoesOn),
            true if self.matcher.stop_reason().is_ok() => Ok(Progress::Complete),
            true => Err(self.matcher.stop_reason().to_string()),
        }
    }
}

/// Where one candidate is in its form.
pub(super) struct Constraint {
    state: State,
    masks: Sender<Work>,
}

enum State {
    Here(Box<Follower>, Allowed),
    /// The thread works out what is allowed.
    Away(Receiver<Worked>),
    /// Nothing may come any more, or nothing can be told.
    Over,
}

type Worked = (Box<Follower>, Result<Allowed, String>);

struct Work {
    follower: Box<Follower>,
    answer: SyncSender<Worked>,
}

/// What comes after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    GoesOn,
    /// The text matches, and nothing can be added to it.
    Complete,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// The tokens that may come next; those that end an answer are among them where the text matches. Waits until they
    /// are worked out.
    ///
    /// # Errors
    ///
    /// When there are none, or the form takes too much to follow.
    pub(super) fn allowed(&mut self) -> Result<&Allowed, FormError> {
        if let State::Away(worked) = &self.state {
            let worked = worked.recv();
            self.state = State::Over;
            let (follower, allowed) = worked.map_err(|_| FormError("the thread of grammars has ended".into()))?;
            self.state = State::Here(follower, allowed.map_err(|error| stuck(&error))?);
        }
        match &self.state {
            State::Here(_, allowed) => Ok(allowed),
            _ => Err(FormError("nothing may follow any more".into())),
        }
    }

    /// The same state, to go on from in another way. Waits as [`Constraint::allowed`] does.
    ///
    /// # Errors
    ///
    /// As [`Constraint::allowed`].
    pub(super) fn fork(&mut self) -> Result<Self, FormError> {
        self.allowed()?;
        let State::Here(follower, allowed) = &self.state else {
            return Err(FormError("nothing may follow any more".into()));
        };
        Ok(Self { state: State::Here(follower.clone(), allowed.clone()), masks: self.masks.clone() })
    }

    /// Goes on by a token that is allowed and does not end the answer.
    ///
    /// # Errors
    ///
    /// As [`Constraint::allowed`].
    pub(super) fn accept(&mut self, token: u32) -> Result<Progress, FormError> {
        self.allowed()?;
        let State::Here(mut follower, _) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(FormError("nothing may follow any more".into()));
        };
        if follower.accept(token).map_err(|error| stuck(&error))? == Progress::Complete {
            return Ok(Progress::Complete);
        }
        let (answer, worked) = mpsc::sync_channel(1);
        if let Err(unsent) = self.masks.send(Work { follower, answer }) {
            work_out(unsent.0);
        }
        self.state = State::Away(worked);
        Ok(Progress::GoesOn)
    }
}

/// Works until nobody can ask any more.
fn compute_masks(work: &Receiver<Work>) {
    while let Ok(work) = work.recv() {
        work_out(work);
    }
}

fn work_out(work: Work) {
    let Work { mut follower, answer } = work;
    let allowed = follower.allowed();
    // A candidate that was given up does not listen.
    let _ = answer.send((follower, allowed));
}

fn stuck(error: &str) -> FormError {
    FormError(format!("the text cannot be continued in its form: {}", first_line(error)))
}

/// Refuses what llguidance would take and not keep, or take too long for. `remainders` is the least common multiple so far.
fn check(schema: &Json, remainders: &mut u64) -> Result<(), FormError> {
    let refused = |message: String| Err(FormError(message));
    match schema {
        Json::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match magnitude.is_some_and(|magnitude| magnitude > MAX_EXACT) {
                true => refused(format!("{number} is beyond 2^53 and cannot be kept exactly; leave it out")),
                false => Ok(()),
            }
        }
        Json::Array(items) => items.iter().try_for_each(|item| check(item, remainders)),
        Json::Object(members) => {
            // Names that are not listed may be written twice, and a reader then has fewer of them.
            let required = members.get("required").and_then(Json::as_array).map_or(0, |names| names.len() as u64);
            if members.get("minProperties").and_then(Json::as_f64).is_some_and(|least| least > required as f64 + 1.0) {
                return refused("`minProperties` cannot be kept beyond one more than `required` lists".into());
            }
            if let Some(Json::Number(number)) = members.get("multipleOf") {
                let divisor = digits(&number.to_string());
                *remainders =
                    divisor.and_then(|divisor| least_common_multiple(*remainders, divisor)).unwrap_or(u64::MAX);
                if *remainders > MOST_REMAINDERS {
                    let message =
                        format!("`multipleOf` {number} has too many remainders to count, alone or with others");
                    return refused(message);
                }
            }
            members.values().try_for_each(|member| check(member, remainders))
        }
        _ => Ok(()),
    }
}

/// The digits of a number, less the powers of ten in it; `None` where there are too many.
fn digits(number: &str) -> Option<u64> {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match mantissa.contains('.') {
        // The zero of 5.0 is no digit that counts.
        true => digits.trim_matches('0'),
        false => digits.trim_end_matches('0'),
    };
    if digits.is_empty() { Some(1) } else { digits.parse().ok() }
}

fn least_common_multiple(one: u64, other: u64) -> Option<u64> {
    let (mut divisor, mut rest) = (one, other);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one / divisor.max(1)).checked_mul(other)
}

/// What a message says, in one line of a bearable length.
fn first_line(message: &str) -> String {
    if message.starts_with("panic") {
        return "it cannot be compiled".into();
    }
    // What is wrong with an expression stands below a drawing of it.
    let told = message.lines().find_map(|line| line.trim().strip_prefix("error: "));
    let line = told.unwrap_or_else(|| message.lines().next().unwrap_or_default());
    let mut end = line.len().min(MAX_MESSAGE_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests;
