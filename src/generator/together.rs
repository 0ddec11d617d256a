//! Several candidates in one call to a provider that honours `n`: what came back is counted, and what is missing is asked
//! for again.
//!
//! The prompt of such a call is paid for once. Its candidates are heard when all of them are there, an attempt that
//! fails is made again for all of them, and dropping it drops all: whoever asks says which candidates are needed
//! whatever comes of the others, and only those are asked for in one call.

use futures_util::stream::{BoxStream, StreamExt, iter, once, select_all};

use crate::completion::StepEvent;
use crate::failure::Failure;
use crate::providers::openai::{self, NoneCame, Refusal};

use super::Path;
use super::remote::{Calling, ended};

/// How candidates end.
type Ends = BoxStream<'static, (usize, StepEvent)>;

impl Calling {
    /// Extends the first `needed` paths in as few calls as the provider lets it be, and each of the others in one of its
    /// own.
    pub fn together(&self, mut paths: Vec<Path>, needed: usize) -> Ends {
        let others = paths.split_off(needed.min(paths.len()));
        self.in_few_calls(paths, others)
    }

    fn in_few_calls(&self, paths: Vec<Path>, others: Vec<Path>) -> Ends {
        let most = paths.first().map_or(1, |path| self.provider.most_together(&path.prompt.model));
        let (mut calls, mut single) = (Vec::new(), Vec::new());
        for group in paths.chunks(most) {
            match group {
                [path] => single.push(path.clone()),
                several => calls.push(self.in_one_call(several.to_vec())),
            }
        }
        single.extend(others);
        if calls.is_empty() {
            return self.separately(single);
        }
        if !single.is_empty() {
            calls.push(self.separately(single));
        }
        select_all(calls).boxed()
    }

    /// One call for all of these, two or more.
    fn in_one_call(&self, paths: Vec<Path>) -> Ends {
        let (account, turn) = self.turn(&paths[0], paths.len() as u64);
        let calling = self.clone();
        let call = async move {
            let (provider, seed, count) = (&calling.provider, paths[0].upstream_seed(), paths.len());
            let choices = match provider.complete_several(&calling.prepared, count, seed, account).await {
                Ok(choices) => choices,
                Err(NoneCame { refusal: Some(refusal), .. }) => return calling.one_alone(paths, refusal),
                Err(NoneCame { failure, .. }) => return all_failed(&paths, &failure),
            };
            let came = choices.len();
            let ends: Vec<_> =
                paths.iter().zip(choices).map(|(path, choice)| (path.candidate, ended(choice))).collect();
            let missing = paths[came..].to_vec();
            if missing.is_empty() {
                return iter(ends).boxed();
            }
            paths[0].run.notes.add(format!(
                "the provider answered {came} of the {count} times that `n` asked for; the others were asked for again"
            ));
            iter(ends).chain(calling.in_few_calls(missing, Vec::new())).boxed()
        };
        once(turn.of(call)).filter_map(std::future::ready).flatten().boxed()
    }

    /// The server has refused to answer several times. One candidate alone shows whether that was why: if it is refused
    /// too, so would be the others. What began with the refused call begins anew, each with its own.
    fn one_alone(&self, mut paths: Vec<Path>, refusal: Refusal) -> Ends {
        paths[0].run.ledger.hand_over(paths[0].phase, paths.len() as u64);
        let others = paths.split_off(1);
        let first = paths.remove(0);
        let (account, turn) = self.turn(&first, 1);
        let calling = self.clone();
        let call = async move {
            let end = calling.provider.complete(&calling.prepared, first.upstream_seed(), account).await;
            let rest = match &end {
                Err(failure) if openai::Provider::may_refuse_several(failure) => all_failed(&others, failure),
                Err(_) => calling.separately(others),
                Ok(_) => {
                    refusal.was_for_several();
                    first.run.notes.add(
                        "the provider refused to answer several times, as `n` asked it to, which is remembered for a \
                         while; each candidate was asked for by itself"
                            .to_owned(),
                    );
                    calling.separately(others)
                }
            };
            iter([(first.candidate, ended(end))]).chain(rest)
        };
        once(turn.of(call)).filter_map(std::future::ready).flatten().boxed()
    }
}

fn all_failed(paths: &[Path], failure: &Failure) -> Ends {
    let ends: Vec<_> = paths.iter().map(|path| (path.candidate, StepEvent::Failed(failure.clone()))).collect();
    iter(ends).boxed()
}
