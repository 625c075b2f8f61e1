//! The limits of an answer, and calls.

use vortex_plugin_sdk::{Answer, Error, Input, InputFrame, Level, Output, call};

/// Fills an answer until it says no, and expects that at the limit.
fn assert_limit(limit: usize, mut add: impl FnMut(&mut Output<'_>) -> Result<(), Error>) {
    let mut buffer = vec![0; 100_000];
    let mut output = Output::new(&mut buffer);
    for count in 0..limit {
        assert_eq!(add(&mut output), Ok(()), "{count}");
    }
    assert_eq!(add(&mut output), Err(Error::Full));
    // Once it was full, there is no answer, though everything else had room.
    assert_eq!(output.finish(), Err(Error::Full));

    let mut output = Output::new(&mut buffer);
    for _ in 0..limit {
        add(&mut output).unwrap();
    }
    let length = output.finish().unwrap();
    let answer = Answer::parse(&buffer[..length]).unwrap();
    assert_eq!(answer.operations().len() + answer.lines().len(), limit);
}

#[test]
fn counts_are_limited() {
    assert_limit(1024, |output| output.append_header("x", "v"));
    assert_limit(1024, |output| output.remove_header("x"));
    assert_limit(64, |output| output.log(Level::Info, "hi"));
}

#[test]
fn a_context_is_limited() {
    let mut buffer = vec![0; 10_000];
    let mut output = Output::new(&mut buffer);
    assert_eq!(output.set_context(&[1; 4096]), Ok(()));
    assert_eq!(output.set_context(&[1; 4097]), Err(Error::Full));
    assert_eq!(output.finish(), Err(Error::Full));
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let mut buffer = vec![0; 10_000];
    let mut output = Output::new(&mut buffer);
    let text = format!("{}ää", "x".repeat(1023));
    output.log(Level::Debug, &text).unwrap();
    let length = output.finish().unwrap();
    let answer = Answer::parse(&buffer[..length]).unwrap();
    let line = "x".repeat(1023);
    assert!(answer.lines().eq([(Level::Debug, line.as_bytes())]));
}

#[test]
fn the_last_body_verdict_and_context_hold() {
    let mut buffer = [0; 512];
    let mut output = Output::new(&mut buffer);
    output.set_body(b"first").unwrap();
    output.set_body(b"").unwrap();
    output.set_context(b"one").unwrap();
    output.set_context(b"two").unwrap();
    output.deny(401);
    output.allow();
    let length = output.finish().unwrap();
    let answer = Answer::parse(&buffer[..length]).unwrap();
    assert!(answer.allow());
    assert_eq!(answer.status(), 0);
    assert_eq!(answer.body(), Some(&b""[..]));
    assert_eq!(answer.context(), Some(&b"two"[..]));
}

#[test]
fn a_call_fails_with_its_hook() {
    let (mut input, mut output) = ([0; 512], [0; 512]);
    let length = InputFrame::default().write(&mut input).unwrap();
    let input = &input[..length];
    let failed = call(input, &mut output, |_, _| Err(Error::Failed));
    assert_eq!(failed, Err(Error::Failed));
    let ignored = |_: &Input<'_>, output: &mut Output<'_>| {
        let _ = output.set_body(&[0; 600]);
        Ok(())
    };
    assert_eq!(call(input, &mut output, ignored), Err(Error::Full));
    assert_eq!(call(b"frame", &mut output, ignored), Err(Error::Malformed));
    for error in [Error::Malformed, Error::Full, Error::Failed] {
        assert!(error.code() < 0);
    }
}
