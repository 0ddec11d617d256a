//! `itsd grade` as a user runs it: a line of JSON and an exit code.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn grade(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_itsd"))
        .arg("grade")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A response on the command line leaves the input unread, so writing may fail.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the program ends")
}

#[test]
fn a_verdict_is_printed_and_decides_the_exit_code() {
    for (response, line, code) in [
        ("So \\boxed{\\sqrt{3}/2}.", r#"{"verdict":"equal","rule":"same_class","extracted":"\\sqrt{3}/2"}"#, 0),
        ("The answer is 0.8660254", r#"{"verdict":"equal","rule":"numeric","extracted":"0.8660254"}"#, 0),
        ("The answer is -1.", r#"{"verdict":"different","rule":null,"extracted":"-1"}"#, 1),
        ("I cannot say.", r#"{"verdict":"unparsed","rule":null,"extracted":null}"#, 1),
    ] {
        let reference = "\\frac{\\sqrt3}{2}";
        for (arguments, input) in [
            (vec!["--reference", reference, response], ""),
            (vec!["--reference", reference], response),
            (vec!["--reference", reference, "-"], response),
        ] {
            let output = grade(&arguments, input);
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{line}\n"), "{arguments:?}");
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        }
    }
}

#[test]
fn a_reference_is_required() {
    let output = grade(&["5"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--reference"));
}
