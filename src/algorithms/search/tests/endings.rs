//! What an answer is chosen from: paths that fail, that cannot be scored, that break what was asked for.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::scripted::Turn::{Ends, Fails, Mumbles, Says};
use super::*;
use crate::algorithms::{Candidate, StopReason};
use crate::completion::Signals;
use crate::failure::{Failure, FailureKind};
use crate::generator::Step;
use crate::scorers::PathScorer;

#[tokio::test]
async fn a_path_that_fails_is_survived_and_told() {
    let generator = Scripted::new(|name, step| match (name, step) {
        ("1", 1) => Fails,
        (_, 2) => Ends("!", 0.5),
        ("0", _) => Says("a", 0.5),
        ("1", _) => Says("b", 0.5),
        _ => Says("c", 0.5),
    });
    let outcome = ask(&particles(3, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!((outcome.counts(), outcome.stop.reason), ((3, 1, 0), StopReason::Completed), "its place is another's");
    assert_eq!(generator.counts().forked, 1);
    assert!(matches!(&outcome.candidates[3], Candidate::Failed(failure) if failure.message == "1 fell"));
    assert_eq!(outcome.warnings, ["1 of 4 candidates failed: upstream_unavailable 1; the answer rests on 3"]);

    let generator = Scripted::new(|name, step| match (name, step) {
        ("0", 1) => Fails,
        (_, 1) => Ends("!", 0.5),
        ("0", _) => Says("a", 0.9),
        ("1", _) => Says("b", 0.8),
        _ => Says("c", 0.1),
    });
    let outcome = ask(&beams(2, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!((content(&outcome), outcome.counts().1), ("a!", 1));
}

#[tokio::test]
async fn a_search_fails_when_all_of_its_paths_do() {
    for settings in [particles(3, SearchSettings::default()), beams(2, SearchSettings::default())] {
        for last in [0, 1] {
            let generator = Scripted::new(move |_, step| if step == last { Fails } else { Says("a", 0.5) });
            let error = ask(&settings, &generator).await.unwrap_err();
            assert_eq!(error.telling().kind, FailureKind::Unavailable);
            assert!(error.to_string().ends_with(" fell"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_scored_is_the_worst_and_told() {
    let generator = Scripted::new(|name, step| match (name, step) {
        ("0", 0) => Mumbles("?"),
        (_, 0) => Says("b", 0.001),
        ("0", _) => Ends("?", 0.5),
        _ => Ends("!", 0.6),
    });
    let settings = beams(1, SearchSettings::default());
    let outcome = ask(&settings, &generator).await.unwrap();
    assert_eq!(drawn(&outcome)[..2], ["0 < - ? ? pruned", "1 < - b 0.001 kept"]);
    let warning = &outcome.warnings[0];
    assert!(
        warning.starts_with("`perplexity` could not score 1 steps, whose paths counted as the worst: "),
        "{warning}"
    );

    for settings in [particles(2, SearchSettings::default()), settings] {
        let error = ask(&settings, &Scripted::new(|_, _| Mumbles("?"))).await.unwrap_err();
        assert_eq!(error.telling().kind, FailureKind::JudgeFailed);
        assert!(error.to_string().contains("could not score a single path"), "{error}");
    }
}

#[tokio::test]
async fn what_breaks_the_form_that_was_asked_for_wins_only_alone() {
    for settings in [particles(2, SearchSettings::default()), beams(1, SearchSettings::default())] {
        let generator = Scripted::by_name(&[("0", &[Ends("no JSON", 0.55)]), ("1", &[Ends("{}", 0.5)])]);
        let format = RawValue::from_string(r#"{"type":"json_object"}"#.to_owned()).unwrap();
        let prompt = Arc::new(Prompt { response_format: Some(format), ..prompt() });
        let plan = plan(&settings, 1, &generator);
        let scope = Arc::new(Run::new(Some(1)));
        let outcome = run(&plan, prompt, &*generator, &scope, &mut ()).await.unwrap();
        assert_eq!(content(&outcome), "{}");
        let verdict = outcome.verdict.unwrap();
        assert!(verdict.set_aside[0].is_invalid && verdict.set_aside[0].candidate == 0);
    }
}

#[tokio::test]
async fn the_best_so_many_answers_are_of_as_many_paths() {
    // The copies of one end are one answer.
    let generator = Scripted::by_name(&[
        ("0", &[Ends("a", 0.9)]),
        ("1", &[Says("b", 0.9), Ends("d", 0.3)]),
        ("2", &[Says("c", 0.001)]),
    ]);
    let plan = plan(&particles(3, SearchSettings::default()), 3, &generator);
    let scope = Arc::new(Run::new(Some(1)));
    let outcome = run(&plan, Arc::new(prompt()), &*generator, &scope, &mut ()).await.unwrap();
    let answers: Vec<&str> = outcome.answers().iter().map(|answer| answer.reply.content().unwrap()).collect();
    assert_eq!(answers[0], "a");
    let all: std::collections::BTreeSet<&str> = answers.iter().copied().collect();
    assert_eq!(all.len(), answers.len(), "{answers:?}");
    assert_eq!(outcome.counts().0, 3);
    assert!(outcome.warnings.iter().any(|warning| warning.contains("of the 3 answers")), "{:?}", outcome.warnings);
}

/// A scorer that remembers all that its path has said, and scores by that.
#[derive(Debug)]
struct Witness {
    kept: Arc<()>,
}

struct Memory {
    said: String,
    _kept: Arc<()>,
}

impl StepScorer for Witness {
    fn begin(&self, _: &Arc<Prompt>, _: &Arc<Run>) -> Box<dyn PathScorer> {
        Box::new(Memory { said: String::new(), _kept: Arc::clone(&self.kept) })
    }

    fn signals(&self) -> Option<Signals> {
        None
    }

    fn name(&self) -> &'static str {
        "witness"
    }
}

/// Of 1 for a text of `a` alone, and half of it for each other letter.
fn merit(text: &str) -> f64 {
    text.bytes().map(|letter| if letter == b'a' { 1.0 } else { 0.5 }).product()
}

impl PathScorer for Memory {
    fn score<'a>(&'a mut self, step: &'a Step) -> BoxFuture<'a, Result<f64, Failure>> {
        async move {
            tokio::task::yield_now().await;
            self.said.push_str(&step.text);
            Ok(merit(&self.said))
        }
        .boxed()
    }

    fn fork(&mut self) -> Box<dyn PathScorer> {
        Box::new(Memory { said: self.said.clone(), _kept: Arc::clone(&self._kept) })
    }
}

#[tokio::test]
async fn what_a_scorer_keeps_of_a_path_forks_and_goes_with_it() {
    for settings in [particles(6, SearchSettings::default()), beams(3, SearchSettings::default())] {
        let generator = Scripted::new(|name, step| {
            let letter = ["a", "b", "c"][(name.bytes().map(usize::from).sum::<usize>() + step) % 3];
            if step == 5 { Ends(letter, 0.5) } else { Says(letter, 0.5) }
        });
        let kept = Arc::new(());
        let plan = scored_by(plan(&settings, 1, &generator), Arc::new(Witness { kept: Arc::clone(&kept) }));
        let scope = Arc::new(Run::new(Some(3)));
        let outcome = run(&plan, Arc::new(prompt()), &*generator, &scope, &mut ()).await.unwrap();
        drop(plan);
        assert_eq!((Arc::strong_count(&kept), generator.alive()), (1, 0), "nothing is kept of a path that is over");
        assert!(generator.counts().forked > 0);
        let nodes = &outcome.searched.as_ref().unwrap().tree.nodes;
        for (id, node) in nodes.iter().enumerate() {
            let mut text = node.text.clone();
            let mut parent = node.parent;
            while let Some(at) = parent {
                assert!(at < id);
                text.insert_str(0, &nodes[at].text);
                parent = nodes[at].parent;
            }
            assert_eq!(node.score, Some(merit(&text)), "{text}: the scorer has seen this path and no other");
            if let Some(candidate) = node.candidate {
                assert_eq!(outcome.candidates[candidate].completion().unwrap().reply.content(), Some(&*text));
            }
        }
    }
}
