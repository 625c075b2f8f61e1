//! Reader and writer against the vectors.

use std::collections::HashSet;

use vortex_plugin_sdk::{Answer, Change, Error, Field, Input, InputFrame, Level, Output};

use crate::vectors::{InputVector, OutputVector, vectors};

fn assert_says(input: &Input<'_>, vector: &InputVector) {
    let name = &vector.name;
    assert_eq!(input.phase(), vector.phase(), "{name}");
    assert_eq!(input.status(), vector.status, "{name}");
    let texts = [
        (Field::Method, input.method(), &vector.method),
        (Field::Path, input.path(), &vector.path),
        (Field::Query, input.query(), &vector.query),
        (Field::Scheme, input.scheme(), &vector.scheme),
        (Field::Authority, input.authority(), &vector.authority),
        (Field::Remote, input.remote(), &vector.remote),
        (Field::Route, input.route(), &vector.route),
    ];
    for (field, text, expected) in texts {
        assert_eq!(text, expected, "{name}, {field:?}");
        assert_eq!(input.raw(field), expected.as_bytes(), "{name}, {field:?}");
    }
    let headers = vector.headers();
    assert_eq!(input.has_headers(), headers.is_some(), "{name}");
    let headers = headers.unwrap_or_default();
    assert_eq!(input.headers().collect::<Vec<_>>(), headers, "{name}");
    for (header, _) in &headers {
        let values: Vec<_> = headers
            .iter()
            .filter(|(other, _)| other == header)
            .map(|(_, value)| *value)
            .collect();
        for header in [(*header).to_owned(), header.to_ascii_uppercase()] {
            assert_eq!(
                input.header(&header),
                values.first().copied(),
                "{name}, {header}"
            );
            assert!(
                input.header_values(&header).eq(values.iter().copied()),
                "{name}, {header}"
            );
        }
    }
    assert_eq!(input.header("x-none"), None, "{name}");
    let body = vector.body.as_ref().map(|body| &body.0[..]);
    assert!(input.body() == body, "{name}");
    assert_eq!(input.body_len(), vector.body_len, "{name}");
    assert_eq!(input.config(), vector.config.0, "{name}");
    assert_eq!(input.context(), vector.context.0, "{name}");
}

#[test]
fn every_input_is_read() {
    let vectors = vectors();
    for vector in vectors.inputs.iter().chain(&vectors.other_inputs) {
        assert_says(&Input::parse(&vector.frame.0).unwrap(), vector);
    }
}

#[test]
fn every_input_is_written_byte_for_byte() {
    let mut buffer = vec![0xEE; 200_000];
    for vector in vectors().inputs {
        let headers = vector.headers();
        let frame = InputFrame {
            phase: vector.phase(),
            status: vector.status,
            method: &vector.method,
            path: &vector.path,
            query: &vector.query,
            scheme: &vector.scheme,
            authority: &vector.authority,
            remote: &vector.remote,
            route: &vector.route,
            headers: headers.as_deref(),
            body: vector.body.as_ref().map(|body| &body.0[..]),
            body_len: vector.body_len,
            config: &vector.config.0,
            context: &vector.context.0,
        };
        let length = frame.write(&mut buffer).unwrap();
        assert!(buffer[..length] == vector.frame.0, "{}", vector.name);
        let mut exact = vec![0; length];
        assert_eq!(frame.write(&mut exact), Ok(length), "{}", vector.name);
        let mut short = vec![0; length - 1];
        assert_eq!(frame.write(&mut short), Err(Error::Full), "{}", vector.name);
    }
}

/// A wrong frame is refused, or what is wrong in it is empty. The reader has no
/// unsafe code, so that nothing outside can be read.
#[test]
fn nothing_outside_an_input_is_read() {
    let mut rules = HashSet::new();
    for vector in vectors().refused_inputs {
        let inside = vector.rule == "a span lies inside its frame";
        let what = format!("{}: {}", vector.name, vector.rule);
        rules.insert(vector.rule);
        let Ok(input) = Input::parse(&vector.frame.0) else {
            assert!(!inside, "{what}");
            continue;
        };
        assert!(inside, "{what}");
        let fields = [
            Field::Method,
            Field::Path,
            Field::Query,
            Field::Scheme,
            Field::Authority,
            Field::Remote,
            Field::Route,
        ];
        let mut found = fields.map(|field| input.raw(field)).to_vec();
        found.extend(input.body());
        found.extend([input.config(), input.context()]);
        assert!(found.iter().all(|bytes| bytes.is_empty()), "{what}");
        assert!(
            input
                .headers()
                .all(|(name, value)| name.is_empty() || value.is_empty()),
            "{what}"
        );
    }
    assert!(rules.len() > 4, "{rules:?}");
}

/// Frames with any byte replaced by any of some bytes: nothing panics.
#[test]
fn no_frame_is_too_broken() {
    let mut found = 0;
    for vector in vectors()
        .inputs
        .iter()
        .filter(|vector| vector.frame.0.len() < 1000)
    {
        let mut frame = vector.frame.0.clone();
        for at in 0..frame.len() {
            let before = frame[at];
            for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                frame[at] = byte;
                let Ok(input) = Input::parse(&frame) else {
                    continue;
                };
                found += input
                    .headers()
                    .map(|(name, value)| name.len() + value.len())
                    .sum::<usize>();
                found += input.query().len() + input.body().map_or(0, <[u8]>::len);
                found += input.header_values("host").count();
            }
            frame[at] = before;
        }
    }
    assert!(found > 0);
}

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::Error),
    ("warning", Level::Warning),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

const CHANGES: [(&str, Change); 3] = [
    ("set", Change::Set),
    ("append", Change::Append),
    ("remove", Change::Remove),
];

/// The number of a level in a frame.
pub(crate) fn level_number(name: &str) -> u8 {
    named(LEVELS, name) as u8
}

fn named<T: Copy, const N: usize>(table: [(&str, T); N], name: &str) -> T {
    table.iter().find(|(known, _)| *known == name).unwrap().1
}

pub(crate) fn assert_means(frame: &[u8], vector: &OutputVector) {
    let name = &vector.name;
    let answer = Answer::parse(frame).unwrap();
    assert_eq!(
        (answer.allow(), answer.status()),
        (vector.allow, vector.status),
        "{name}"
    );
    let operations: Vec<_> = answer
        .operations()
        .map(|(change, name, value)| (change, name.to_ascii_lowercase(), value.to_vec()))
        .collect();
    let expected: Vec<_> = vector
        .ops
        .iter()
        .map(|(change, name, value)| {
            (
                named(CHANGES, change),
                name.clone().into_bytes(),
                value.0.clone(),
            )
        })
        .collect();
    assert_eq!(operations, expected, "{name}");
    let lines: Vec<_> = answer
        .lines()
        .map(|(level, text)| (level, String::from_utf8_lossy(text).into_owned()))
        .collect();
    let expected: Vec<_> = vector
        .logs
        .iter()
        .map(|(level, text)| (named(LEVELS, level), text.clone()))
        .collect();
    assert_eq!(lines, expected, "{name}");
    assert_eq!(
        answer.body(),
        vector.body.as_ref().map(|body| &body.0[..]),
        "{name}"
    );
    assert_eq!(
        answer.context(),
        vector.context.as_ref().map(|bytes| &bytes.0[..]),
        "{name}"
    );
}

#[test]
fn every_output_is_read() {
    for vector in vectors().outputs {
        assert_means(&vector.frame.0, &vector);
    }
}

/// Says what a vector says, in the order in which the frame has it or with
/// lines and fields first.
fn say(output: &mut Output<'_>, vector: &OutputVector, lines_first: bool) -> Result<(), Error> {
    let lines = |output: &mut Output<'_>| {
        let mut lines = vector.logs.iter();
        lines.try_for_each(|(level, text)| output.log(named(LEVELS, level), text))
    };
    let fields = |output: &mut Output<'_>| {
        vector
            .body
            .iter()
            .try_for_each(|body| output.set_body(&body.0))?;
        vector
            .context
            .iter()
            .try_for_each(|context| output.set_context(&context.0))
    };
    if lines_first {
        fields(output)?;
        lines(output)?;
    }
    for (change, name, value) in &vector.ops {
        match named(CHANGES, change) {
            Change::Set => output.set_header(name, &value.0)?,
            Change::Append => output.append_header(name, &value.0)?,
            Change::Remove => output.remove_header(name)?,
        }
    }
    if !lines_first {
        lines(output)?;
        fields(output)?;
    }
    if vector.allow {
        output.set_status(vector.status);
    } else {
        output.deny(vector.status);
    }
    Ok(())
}

#[test]
fn every_output_can_be_said() {
    let mut buffer = vec![0xEE; 100_000];
    for vector in vectors().outputs {
        for lines_first in [false, true] {
            let mut output = Output::new(&mut buffer);
            say(&mut output, &vector, lines_first).unwrap();
            let length = output.finish().unwrap();
            assert_means(&buffer[..length], &vector);
        }
    }
}

/// In a buffer of any size, an answer is whole or there is none.
#[test]
fn no_answer_is_cut() {
    let mut whole = 0;
    for vector in vectors()
        .outputs
        .iter()
        .filter(|vector| vector.frame.0.len() < 600)
    {
        for size in 0..1200 {
            let mut buffer = vec![0xEE; size];
            let mut output = Output::new(&mut buffer);
            // A hook that does not look at its errors.
            let said = say(&mut output, vector, size % 2 == 0);
            match output.finish() {
                Ok(length) => {
                    assert_eq!(said, Ok(()), "{}, {size}", vector.name);
                    assert_means(&buffer[..length], vector);
                    whole += 1;
                }
                Err(error) => assert_eq!(error, Error::Full),
            }
        }
    }
    assert!(whole > 1000, "{whole}");
}

#[test]
fn nothing_said_is_forty_bytes() {
    let vectors = vectors();
    let allow = vectors
        .outputs
        .iter()
        .find(|vector| vector.name == "forty bytes allow")
        .unwrap();
    let mut buffer = [0xEE; 200];
    assert_eq!(Output::new(&mut buffer).finish(), Ok(40));
    assert_eq!(buffer[..40], allow.frame.0);
    assert_eq!(Output::new(&mut buffer[..40]).finish(), Ok(40));
    assert_eq!(Output::new(&mut buffer[..39]).finish(), Err(Error::Full));
}
