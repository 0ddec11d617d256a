use super::*;
use serde_json::Value;
#[test]
fn dump() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/data/math_grading.json")).unwrap();
    let rows = file["rows"].as_array().unwrap();
    let mut bad = 0;
    for (i, row) in rows.iter().enumerate() {
        let (gold, pred) = (row["gold"].as_str().unwrap(), row["pred"].as_str().unwrap());
        let v = grade(gold, pred);
        let pass = matches!(v, Verdict::Equal{..}) == (row["expected"] == 1);
        if let Verdict::Equal{rule,..} = &v { println!("RULE {i} {rule}"); }
        if !pass { bad += 1; println!("FAIL {i} {} exp {} G {:?} P {:?} -> {v:?}", row["group"].as_str().unwrap(), row["expected"], &gold[gold.len().saturating_sub(80)..], &pred[pred.len().saturating_sub(80)..]); }
    }
    println!("{bad} bad");
    let file: Value = serde_json::from_str(include_str!("../../../tests/data/math_equivalence_strings.json")).unwrap();
    for row in file["rows"].as_array().unwrap() {
        let s = math_string::same(row["a"].as_str().unwrap(), row["b"].as_str().unwrap());
        if s != (row["expected"]==1) { println!("STR {row}"); }
    }
}
