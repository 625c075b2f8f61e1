//! Errors: their messages, their sources, what they give away.

use std::error::Error;
use std::io;

use vortex_hook_core::{ChainError, DecodeError, HookError, HookInput, HookOutput};

#[test]
fn a_hook_error_is_what_it_wraps() {
    let error = HookError::new(io::Error::other(HookError::new("deep")));
    assert_eq!(error.to_string(), "deep");
    assert!(error.downcast_ref::<io::Error>().is_some());
    assert!(error.downcast_ref::<DecodeError>().is_none());

    let source = HookOutput::from_json(b"x").unwrap_err();
    let message = source.to_string();
    let error = ChainError::Hook {
        hook: "h".to_owned(),
        source: HookError::new(source),
    };
    assert_eq!(error.to_string(), "hook `h` failed");
    let source = error.source().unwrap();
    assert_eq!(source.to_string(), message);
    // A report of all sources says it once.
    assert!(source.source().is_none());
}

#[test]
fn a_decode_error_says_what_where_and_why() {
    let error = HookOutput::from_json(b"{\n\"status\":\"403\"}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid hook output: invalid type: string \"403\", expected i64 at line 2 column 14"
    );
    let error = HookInput::from_json(b"[7]").unwrap_err();
    assert!(error.to_string().starts_with("invalid hook input: "));
}

#[test]
fn a_plugin_cannot_fill_the_log_with_its_answer() {
    let long = "é".repeat(100_000);
    for json in [
        format!(r#"{{"allow":"{long}"}}"#),
        format!(r#"{{"headers":{{"{long}":[]}}}}"#),
        format!(r#"{{"headers":{{"x":["{long}\n"]}}}}"#),
    ] {
        let error = HookOutput::from_json(json.as_bytes()).unwrap_err();
        let message = error.to_string();
        assert!(message.chars().count() < 300, "{}", message.len());
        assert!(error.source().is_none());
    }
}

#[test]
fn a_refused_header_value_stays_out_of_the_message() {
    let json = br#"{"headers":{"authorization":["s3cret\n"]}}"#;
    let error = HookOutput::from_json(json).unwrap_err();
    assert!(error.to_string().contains("`authorization`"), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("s3cret"),
        "{error:?}"
    );
}
