//! Several answers of one run, the best first.

use super::scripted::{Ending, Scripted, answers, answers_likely};
use super::*;
use crate::algorithms::{Answer, StopReason};
use crate::config::run::{AlgorithmName, Limits, StopRule, Wave};

async fn chosen(wanted: usize, settings: &RunSettings, endings: Vec<Ending>) -> (Vec<usize>, Outcome) {
    let run = Arc::new(Run::new(Some(1)));
    let outcome = ask_for(wanted, settings, &Scripted::new(endings), &run).await.unwrap();
    let Answer::Chosen(chosen) = &outcome.answer else { panic!("nothing was composed") };
    (chosen.clone(), outcome)
}

fn voting(budget: usize) -> RunSettings {
    RunSettings { budget, ..RunSettings::default() }
}

#[tokio::test]
async fn the_winner_comes_first_then_its_class_then_the_others() {
    let endings = vec![
        answers_likely("It is 1.", -0.5),
        answers_likely("It is 2.", -0.9),
        Ending::Fails,
        answers_likely("It is 2.", -0.2),
        answers("No idea."),
        answers_likely("It is 3.", -0.1),
        answers_likely("It is 2.", -0.4),
    ];
    let (all, outcome) = chosen(7, &voting(7), endings.clone()).await;
    // The class of 2 by likelihood, 1 and 3 by index, and at last the one that abstained.
    assert_eq!(all, [3, 6, 1, 0, 5, 4]);
    let failed = "1 of 7 candidates failed: upstream_unavailable 1; the answer rests on 6";
    assert_eq!(outcome.warnings, ["6 of the 7 answers that `n` asks for: no more candidates completed", failed]);
    let (two, outcome) = chosen(2, &voting(7), endings).await;
    assert_eq!((two, outcome.selected(), &*outcome.warnings), (vec![3, 6], Some(3), &[failed.to_owned()][..]));
    assert_eq!(outcome.answers().len(), 2);
}

#[tokio::test]
async fn a_decided_vote_stops_no_run_that_wants_more_than_the_winner() {
    let endings = vec![answers("It is 1."); 8];
    let (_, one) = chosen(1, &voting(8), endings.clone()).await;
    assert_eq!((one.stop.reason, one.counts().0), (StopReason::Decided, 4));
    let (_, two) = chosen(2, &voting(8), endings.clone()).await;
    assert_eq!((two.stop.reason, two.counts().0), (StopReason::Completed, 8));
    // The other rules stop it as soon as there are so many.
    for (wanted, completed) in [(1, 2), (3, 3), (5, 5)] {
        let settings = RunSettings { stop_rule: StopRule::Threshold, wave: Wave::Of(1), ..voting(8) };
        let (all, outcome) = chosen(wanted, &settings, endings.clone()).await;
        assert_eq!((all.len(), outcome.counts().0), (wanted, completed));
    }
}

#[tokio::test]
async fn without_an_algorithm_every_answer_is_a_plain_call() {
    let plain = RunSettings { algorithm: AlgorithmName::None, ..voting(8) };
    let generator = Scripted::arriving(vec![answers("b"), answers("a"), answers("b")], vec![3, 2, 1]);
    let outcome = ask_for(3, &plain, &generator, &Arc::new(Run::new(None))).await.unwrap();
    assert!(matches!(&outcome.answer, Answer::Chosen(all) if *all == [0, 1, 2]));
    assert_eq!((generator.waves(), outcome.verdict.is_none(), outcome.stop.planned), (vec![3], true, 3));

    let (some, outcome) = chosen(3, &plain, vec![Ending::Fails, answers("a"), answers("b")]).await;
    assert_eq!((some, outcome.selected()), (vec![1, 2], Some(1)));
    let failed = "1 of 3 candidates failed: upstream_unavailable 1; the answer rests on 2";
    assert_eq!(outcome.warnings, ["2 of the 3 answers that `n` asks for: no more candidates completed", failed]);
    let error = ask_for(2, &plain, &Scripted::new(vec![Ending::Fails; 2]), &Arc::new(Run::new(None))).await;
    assert_eq!(error.unwrap_err().failures.len(), 2);

    let limits = Limits { max_candidates: Some(2), ..Limits::default() };
    let (some, outcome) = chosen(3, &RunSettings { limits, ..plain }, vec![answers("a"); 3]).await;
    assert_eq!((some, outcome.stop.reason), (vec![0, 1], StopReason::MaxCandidates));
}
