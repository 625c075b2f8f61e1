//! Frames: what reaches a plugin, and hostile answers.

use http::header::HeaderMap;
use http::{Method, Request, StatusCode};
use proptest::prelude::*;
use vortex_hook_core::{FrameError, FrameOutput, HookInput, HookOutput, HookType};

fn span(frame: &[u8], at: usize) -> &[u8] {
    let number = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    &frame[number(at)..][..number(at + 4)]
}

fn frame_of(input: &HookInput<'_>) -> Vec<u8> {
    let mut frame = vec![0xAA; 1 << 18];
    let len = input.write_frame(&mut frame, b"", b"").unwrap();
    frame.truncate(len);
    frame
}

#[test]
fn a_request_gives_its_target() {
    let request = Request::get("https://a.example:8443/x%20y?q=%20z")
        .header("host", "b.example")
        .body(())
        .unwrap();
    let frame = frame_of(&HookInput::from_request(HookType::PreRequest, &request));
    let texts = [32, 40, 48, 56].map(|at| span(&frame, at));
    let expected: [&[u8]; 4] = [b"/x y", b"q=%20z", b"https", b"a.example:8443"];
    assert_eq!(texts, expected);
}

#[test]
fn the_host_header_stands_in_for_the_authority() {
    let request = Request::get("/")
        .header("host", "b.example")
        .body(())
        .unwrap();
    let frame = frame_of(&HookInput::from_request(HookType::PreRequest, &request));
    assert_eq!(span(&frame, 56), b"b.example");
}

#[test]
fn a_body_is_a_window() {
    let body = vec![7; HookInput::MAX_BODY + 5];
    let frame = frame_of(&HookInput::new(HookType::PostResponse).with_body(&body));
    assert_eq!(span(&frame, 80), &body[..HookInput::MAX_BODY]);
    assert_eq!(frame[16..24], (body.len() as u64).to_le_bytes());
}

#[test]
fn a_changed_input_is_encoded_anew() {
    let headers = HeaderMap::new();
    let input = HookInput::new(HookType::OnConnect).with_remote("a");
    assert_eq!(span(&frame_of(&input), 64), b"a");
    let input = input.with_remote("b").with_headers(&headers);
    let input = input.with_status(StatusCode::CREATED).with_scheme("http");
    let frame = frame_of(&input);
    assert_eq!(span(&frame, 64), b"b");
    assert_eq!((frame[7], frame[8]), (1, 201));
}

#[test]
fn the_frame_must_fit_and_have_a_phase() {
    let input = HookInput::new(HookType::PreRequest).with_method(&Method::GET);
    let len = frame_of(&input).len();
    assert_eq!(len, 107);
    let mut room = vec![0; len + 2];
    assert_eq!(input.write_frame(&mut room, b"co", b"").unwrap(), len + 2);
    let refused = input.write_frame(&mut room, b"co", b"n").unwrap_err();
    assert!(matches!(
        refused,
        FrameError::InputTooLarge { len: 110, max: 109 }
    ));
    let refused = HookInput::default().write_frame(&mut room, b"", b"");
    assert!(matches!(refused, Err(FrameError::NoHookType)));
}

#[test]
fn a_message_is_bounded_and_escaped() {
    // One operation whose header name is 2,000 line feeds.
    let mut frame = vec![b'\n'; 60 + 2000];
    frame[..60].fill(0);
    for (at, n) in [(0, 2060_u32), (4, 2), (12, 1), (44, 60), (48, 2000)] {
        frame[at..at + 4].copy_from_slice(&n.to_le_bytes());
    }
    let message = FrameOutput::read(&frame).unwrap_err().to_string();
    assert!(message.starts_with("invalid output frame: header name \"\\n\\n"));
    assert!(message.len() < 400 && !message.contains('\n'), "{message}");
}

proptest! {
    /// Whatever a plugin answers is read, or refused, and nothing panics.
    #[test]
    fn any_answer_is_read_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        operations in 0..4_u32,
        logs in 0..4_u32,
        fields in proptest::collection::vec((24..200_usize, 0..300_u32), 0..12),
    ) {
        let mut frame = vec![0; 40];
        frame.extend(noise);
        let len = frame.len();
        let mut put = |at: usize, n: u32| {
            if let Some(field) = frame.get_mut(at..at + 4) {
                field.copy_from_slice(&n.to_le_bytes());
            }
        };
        put(0, len as u32);
        put(4, 2);
        put(12, operations);
        put(16, logs);
        for (at, n) in fields {
            put(at & !3, n);
        }
        let _ = FrameOutput::read(&frame);
        let _ = FrameOutput::read(&frame[..len / 2]);
    }

    /// A plain denial says its status, whatever it is.
    #[test]
    fn every_status_is_read(status in 0..=u16::MAX) {
        let mut frame = [0; 40];
        (frame[0], frame[4], frame[6]) = (40, 2, 1);
        frame[8..10].copy_from_slice(&status.to_le_bytes());
        let read = FrameOutput::read(&frame).map(|answer| answer.output).ok();
        let expected = match status {
            0 => Some(HookOutput::default()),
            100..=999 => Some(HookOutput::deny(StatusCode::from_u16(status).unwrap())),
            _ => None,
        };
        prop_assert_eq!(read, expected);
    }
}
