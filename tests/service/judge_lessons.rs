//! What a judge's server does not take is learnt once, and not by every question of every request.

use serde_json::json;

use crate::app::spawn_app_for;
use crate::upstream::{Step, Upstream};

#[tokio::test]
async fn what_the_judges_server_refuses_is_learnt_by_the_first_question_for_all_that_follow() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| {
        let asked = seen.json();
        let refuse = |message: &str| Step::status(400, &json!({"error": {"message": message}}).to_string());
        if asked["model"] != "judge" {
            return Step::content(&format!("candidate {}", seen.number));
        }
        match ["response_format", "temperature", "seed"].into_iter().find(|name| asked.get(name).is_some()) {
            Some(name) => refuse(&format!("{name}: extra inputs are not permitted")),
            None => Step::content(r#"{"reasoning": "r", "score": 5}"#),
        }
    });
    let document = json!({
        "alg": "best-of-n", "rm_name": "llm-judge", "judge_model": "judge", "judge_mode": "pointwise", "budget": 4
    });
    let app = spawn_app_for(&upstream, document).await;
    for calls in [3 + 4, 4] {
        let answer = app.chat(json!({"seed": 7, "return_response_only": false})).await;
        let metadata = &answer.ok()["metadata"];
        assert_eq!(metadata["usage_by_phase"]["judge"]["calls"], calls, "{metadata}");
        let warnings = metadata["warnings"].to_string();
        for name in ["response_format", "judge_temperature", "seed"] {
            assert!(warnings.contains(&format!("`{name}`")), "{name}: {warnings}");
        }
    }
}
