//! What is told of the answer while a search goes on.

use super::scripted::Turn::{Ends, Says};
use super::*;
use crate::completion::Logprobs;

async fn listen(
    settings: &RunSettings,
    prompt: Prompt,
    answers: usize,
    generator: &Arc<Scripted>,
) -> (Outcome, Listener) {
    let mut listener = Listener::default();
    let plan = plan(settings, answers, generator);
    let scope = Arc::new(Run::new(Some(1)));
    let outcome = run(&plan, Arc::new(prompt), &**generator, &scope, &mut listener).await.unwrap();
    (outcome, listener)
}

/// Beams that part after `ab`.
fn parting() -> Arc<Scripted> {
    Scripted::new(|name, step| match (name, step) {
        (_, 0) => Says("a", 0.5),
        ("0", 1) => Says("bé", 0.5),
        (_, 1) => Says("bè", 0.4),
        (_, 2) => Says("c", 0.5),
        _ => Ends("d", 0.5),
    })
}

#[tokio::test]
async fn what_all_paths_begin_with_is_told_at_once_and_the_rest_in_the_end() {
    let undivided = SearchSettings { dedup: false, ..SearchSettings::default() };
    for settings in [particles(2, SearchSettings::default()), beams(2, undivided)] {
        let (outcome, listener) = listen(&settings, prompt(), 1, &parting()).await;
        assert_eq!(content(&outcome), "abécd");
        assert_eq!(listener.pieces.concat(), "abécd");
        assert_eq!(listener.pieces[0], "a", "as soon as it is certain");
        assert!(listener.progress.iter().is_sorted_by_key(|(completed, _)| completed), "{:?}", listener.progress);
        assert_eq!(listener.progress.len(), 4, "of every step");
        assert_eq!(listener.progress[3].0, settings.budget);
    }
}

#[tokio::test]
async fn one_path_is_told_step_by_step() {
    let (_, listener) = listen(&particles(1, SearchSettings::default()), prompt(), 1, &parting()).await;
    assert_eq!(listener.pieces, ["a", "bé", "c", "d"]);
}

#[tokio::test]
async fn the_beginning_of_a_text_that_ends_answers_is_held_back() {
    let stopping = Sampling { stop: vec!["ENDE".to_owned()], ..Sampling::default() };
    let prompt = Prompt { sampling: stopping, ..prompt() };
    let generator = Scripted::by_name(&[("0", &[Says("abcdef", 0.5), Says("gé", 0.5), Ends("h", 0.5)])]);
    let (_, listener) = listen(&particles(1, SearchSettings::default()), prompt, 1, &generator).await;
    assert_eq!(listener.pieces, ["abc", "def", "géh"]);
}

#[tokio::test]
async fn nothing_is_told_early_where_it_might_not_be_the_beginning_of_the_one_answer() {
    let tool = crate::completion::Tool {
        definition: RawValue::from_string(r#"{"type":"function","function":{"name":"f"}}"#.to_owned()).unwrap(),
        name: Some("f".to_owned()),
        parameters: None,
    };
    for (prompt, answers) in [
        (Prompt { tools: vec![tool], ..prompt() }, 1),
        (Prompt { logprobs: Some(Logprobs { top: 0 }), ..prompt() }, 1),
        (prompt(), 2),
    ] {
        let (_, listener) = listen(&particles(2, SearchSettings::default()), prompt, answers, &parting()).await;
        assert!(listener.pieces.is_empty(), "{:?}", listener.pieces);
        assert_eq!(listener.progress.len(), 4);
    }
}
