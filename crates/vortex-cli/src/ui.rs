//! What people and machines get to see.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use anstream::ColorChoice;
use anyhow::Result;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::escape::{escaped, escaped_json};
use crate::exit::usage_error;
use crate::table::{BAD, DOUBTFUL, HEAD, styled};

/// When there are colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Standard output for results, standard error for all that is said about them.
pub(crate) struct Ui {
    /// Whether results are JSON.
    pub(crate) json: bool,
}

impl Ui {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
        .write_global();
        Self { json }
    }

    /// Shows a result: JSON to machines, text to people.
    pub(crate) fn result(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json {
            let json = serde_json::to_string_pretty(&json())?;
            self.print(&format!("{}\n", escaped_json(&json)))
        } else {
            self.print(&text())
        }
    }

    /// Writes text to standard output that has been escaped already.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let mut out = anstream::stdout().lock();
        Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
    }

    /// Says something on the side: to machines as one line of JSON, as errors are.
    pub(crate) fn note(&self, text: &str) {
        if self.json {
            self.say_json(&serde_json::json!({ "note": text }));
        } else {
            self.say("note", DOUBTFUL, text);
        }
    }

    /// Says what went wrong, and what can be done.
    pub(crate) fn error(&self, code: u8, message: &str, hint: Option<&str>) {
        if self.json {
            self.say_json(&serde_json::json!({
                "error": { "code": code, "message": message, "hint": hint }
            }));
            return;
        }
        self.say("error", BAD, message);
        if let Some(hint) = hint {
            self.say(" hint", HEAD, hint);
        }
    }

    fn say_json(&self, value: &Value) {
        let mut err = io::stderr().lock();
        // There is nowhere left to say that this failed.
        let _ = writeln!(err, "{}", escaped_json(&value.to_string()));
    }

    fn say(&self, kind: &str, style: anstyle::Style, text: &str) {
        let mut err = anstream::stderr().lock();
        let kind = styled(style, kind);
        let _ = writeln!(err, "{kind}: {}", escaped(text));
    }

    /// Shows on a terminal that something takes its time, until it is dropped.
    pub(crate) fn spinner(&self, what: &str) -> Spinner {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(escaped(what));
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }

    /// Shows on a terminal how much of a download has arrived, once it has begun.
    pub(crate) fn download(
        &self,
        what: &str,
    ) -> (Spinner, impl Fn(u64, u64) + Send + Sync + 'static) {
        let spinner = self.spinner(what);
        let bar = spinner.0.clone();
        let told = move |done, all| {
            if bar.length() != Some(all) {
                bar.set_length(all);
                let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
            }
            bar.set_position(done);
        };
        (spinner, told)
    }

    /// Asks a question on the terminal; no answer is a no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(usage_error(
                "this asks for confirmation and there is no terminal to ask on: give --yes",
            ));
        }
        let mut err = anstream::stderr().lock();
        write!(err, "{} [y/N] ", escaped(question))?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// A sign of life on the terminal.
pub(crate) struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
