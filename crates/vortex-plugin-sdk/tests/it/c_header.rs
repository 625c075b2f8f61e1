//! The C header against the vectors: a C program reads and writes what these
//! tests say, under the sanitizers where the compiler has them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use vortex_plugin_sdk::{Answer, Change};

use crate::frames::{assert_means, level_number};
use crate::vectors::{InputVector, OutputVector, vectors};

/// A C program made from `tests/c/vectors.c`, once for all tests.
struct Program {
    path: PathBuf,
}

static PROGRAM: LazyLock<Program> = LazyLock::new(Program::make);

const SANITIZERS: &str = "-fsanitize=address,undefined";

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// Whether programs with sanitizers can be made and run here.
fn has_sanitizers(dir: &Path) -> bool {
    let (source, path) = (dir.join("empty.c"), dir.join("empty"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let made = compiler()
        .arg(SANITIZERS)
        .arg(&source)
        .arg("-o")
        .arg(&path)
        .output();
    made.is_ok_and(|made| made.status.success())
        && Command::new(&path).status().is_ok_and(|run| run.success())
}

impl Program {
    fn make() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = dir.join("vectors");
        let mut cc = compiler();
        cc.args([
            "-std=c99",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
        ]);
        if has_sanitizers(dir) {
            cc.args([SANITIZERS, "-fno-sanitize-recover=all"]);
        }
        cc.arg("-I")
            .arg(root.join("include"))
            .arg(root.join("tests/c/vectors.c"));
        let made = cc.arg("-o").arg(&path).output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Self { path }
    }

    /// What the program prints, line by line.
    fn run(&self, commands: &str) -> Vec<String> {
        let mut child = Command::new(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let commands = commands.to_owned();
        // In a thread, for the program answers before it has read everything.
        let writer = std::thread::spawn(move || stdin.write_all(commands.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        writer.join().unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("x".to_owned()).chain(digits).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('x').unwrap().as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.iter().map(byte).collect()
}

/// The line that the program prints for an input.
fn line_of(vector: &InputVector) -> String {
    let mut line = format!(
        "{} {} {} {} {}",
        vector.phase() as u8,
        vector.status,
        u8::from(vector.headers.is_some()),
        u8::from(vector.body.is_some()),
        vector.body_len
    );
    let body = vector.body.as_ref().map_or(&[][..], |body| &body.0);
    let fields = [
        vector.method.as_bytes(),
        vector.path.as_bytes(),
        vector.query.as_bytes(),
        vector.scheme.as_bytes(),
        vector.authority.as_bytes(),
        vector.remote.as_bytes(),
        vector.route.as_bytes(),
        body,
        &vector.config.0,
        &vector.context.0,
    ];
    for field in fields {
        line += &format!(" {}", hex(field));
    }
    let headers = vector.headers().unwrap_or_default();
    for (name, value) in &headers {
        let first = headers.iter().find(|(other, _)| other == name).unwrap().1;
        line += &format!(" {} {} {}", hex(name.as_bytes()), hex(value), hex(first));
    }
    line
}

#[test]
fn every_input_is_read() {
    let vectors = vectors();
    let vectors: Vec<_> = vectors.inputs.iter().chain(&vectors.other_inputs).collect();
    let commands = vectors
        .iter()
        .map(|vector| format!("input {}\n", hex(&vector.frame.0)));
    let lines = PROGRAM.run(&commands.collect::<String>());
    assert_eq!(lines.len(), vectors.len());
    for (line, vector) in lines.iter().zip(vectors) {
        assert!(*line == line_of(vector), "{}: {line:.500}", vector.name);
    }
}

/// Each frame lies in memory of its size: a byte read outside ends the program
/// where there are sanitizers.
#[test]
fn nothing_outside_an_input_is_read() {
    let vectors = vectors().refused_inputs;
    let commands = vectors
        .iter()
        .map(|vector| format!("input {}\n", hex(&vector.frame.0)));
    let lines = PROGRAM.run(&commands.collect::<String>());
    assert_eq!(lines.len(), vectors.len());
    for (line, vector) in lines.iter().zip(vectors) {
        if vector.rule == "a span lies inside its frame" {
            // Everything but the numbers is empty: a wrong span, and each field
            // that nothing was said of.
            let words: Vec<_> = line.split(' ').collect();
            assert!(words.len() >= 15, "{}: {line}", vector.name);
            let fields = &words[5..15];
            assert!(
                fields.iter().all(|word| *word == "x"),
                "{}: {line}",
                vector.name
            );
        } else {
            assert_eq!(line, "refused", "{}: {}", vector.name, vector.rule);
        }
    }
}

/// The commands that say what a vector says, in a buffer of that size.
fn commands_of(vector: &OutputVector, size: usize, lines_first: bool) -> String {
    let mut operations = String::new();
    for (change, name, value) in &vector.ops {
        operations += &format!("{change} {} {}\n", hex(name.as_bytes()), hex(&value.0));
    }
    let mut others = String::new();
    for (level, text) in &vector.logs {
        others += &format!("log {} {}\n", level_number(level), hex(text.as_bytes()));
    }
    for (name, field) in [("body", &vector.body), ("context", &vector.context)] {
        if let Some(field) = field {
            others += &format!("{name} {}\n", hex(&field.0));
        }
    }
    let verdict = if vector.allow { "allow" } else { "deny" };
    let (first, second) = if lines_first {
        (others, operations)
    } else {
        (operations, others)
    };
    let status = vector.status;
    format!("output {size}\n{first}{second}{verdict} {status}\nfinish\n")
}

#[test]
fn every_output_can_be_said() {
    let vectors = vectors().outputs;
    let commands = vectors.iter().flat_map(|vector| {
        [false, true].map(|lines_first| commands_of(vector, 100_000, lines_first))
    });
    let lines = PROGRAM.run(&commands.collect::<String>());
    assert_eq!(lines.len(), 2 * vectors.len());
    for (lines, vector) in lines.as_chunks::<2>().0.iter().zip(vectors) {
        for line in lines {
            assert_means(&bytes(line), &vector);
        }
    }
}

#[test]
fn no_answer_is_cut() {
    let vectors = vectors().outputs;
    let small = vectors.iter().filter(|vector| vector.frame.0.len() < 200);
    let cases: Vec<_> = small
        .flat_map(|vector| (0..400).step_by(3).map(move |size| (vector, size)))
        .collect();
    let commands = cases
        .iter()
        .map(|(vector, size)| commands_of(vector, *size, size % 2 == 0));
    let lines = PROGRAM.run(&commands.collect::<String>());
    assert_eq!(lines.len(), cases.len());
    let mut whole = 0;
    for (line, (vector, size)) in lines.iter().zip(cases) {
        if line != "full" {
            assert!(line.len() <= 1 + 2 * size);
            assert_means(&bytes(line), vector);
            whole += 1;
        }
    }
    assert!(
        whole > 500 && whole < lines.len(),
        "{whole} of {}",
        lines.len()
    );
}

#[test]
fn limits_are_kept() {
    let answer = |line: &str, count: usize| {
        format!(
            "output 100000\n{}finish\n",
            format!("{line}\n").repeat(count)
        )
    };
    let commands = [
        answer("append x78 x76", 1024),
        answer("append x78 x76", 1025),
        answer("log 2 x6869", 64),
        answer("log 2 x6869", 65),
        answer(&format!("context {}", hex(&[7; 4096])), 1),
        answer(&format!("context {}", hex(&[7; 4097])), 1),
        answer(
            &format!("log 1 {}", hex(format!("{}ä", "x".repeat(1023)).as_bytes())),
            1,
        ),
    ];
    let lines = PROGRAM.run(&commands.concat());
    let full: Vec<_> = lines.iter().map(|line| line == "full").collect();
    assert_eq!(full, [false, true, false, true, false, true, false]);
    let cut = bytes(&lines[6]);
    let cut = Answer::parse(&cut).unwrap();
    assert_eq!(cut.lines().next().unwrap().1, "x".repeat(1023).as_bytes());
}

#[test]
fn the_exports_answer() {
    let vectors = vectors();
    let frame = |name| {
        &vectors
            .inputs
            .iter()
            .find(|vector| vector.name == name)
            .unwrap()
            .frame
            .0
    };
    let keyed = frame("twelve headers").clone();
    let mut wrong_key = keyed.clone();
    let at = keyed
        .windows(10)
        .position(|bytes| bytes == b"k-demo-123")
        .unwrap();
    wrong_key[at] = b'K';
    let frames = [
        &keyed,
        &wrong_key,
        frame("nothing but a phase"),
        &keyed[1..].to_vec(),
    ];
    let commands = frames.map(|frame| format!("handle {}\n", hex(frame)));
    let lines = PROGRAM.run(&commands.concat());
    let [allowed, failed, denied, malformed] = &lines[..] else {
        panic!("{lines:?}");
    };
    let (length, allowed) = allowed.split_once(' ').unwrap();
    let allowed = bytes(allowed);
    assert_eq!(length, allowed.len().to_string());
    let operations = Answer::parse(&allowed).unwrap().operations();
    assert!(operations.eq([(Change::Set, &b"x-consumer"[..], &b"demo"[..])]));
    assert_eq!(failed, "-3 x");
    let denied = bytes(denied.strip_prefix("40 ").unwrap());
    let denied = Answer::parse(&denied).unwrap();
    assert_eq!((denied.allow(), denied.status()), (false, 401));
    assert_eq!(malformed, "-1 x");
}
