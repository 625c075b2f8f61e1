//! What the demo prints: one line for each thing it has seen happen.

use std::io::IsTerminal;
use std::time::Duration;

/// Prints findings as they are made and remembers how many were bad.
pub(super) struct Report {
    colour: bool,
    good: usize,
    bad: usize,
}

impl Report {
    pub(super) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            colour,
            good: 0,
            bad: 0,
        }
    }

    /// A heading over the lines that follow.
    pub(super) fn section(&self, title: &str) {
        if self.colour {
            println!("\n\x1b[1m{title}\x1b[0m");
        } else {
            println!("\n{title}");
        }
    }

    /// One finding: what was done, what came of it, how long it took. What
    /// was expected instead is shown only when it did not happen.
    pub(super) fn finding(
        &mut self,
        what: &str,
        outcome: &str,
        took: Option<Duration>,
        unmet: &[String],
    ) {
        let good = unmet.is_empty();
        if good {
            self.good += 1;
        } else {
            self.bad += 1;
        }
        println!("{}", line(self.colour, good, what, outcome, took));
        for expectation in unmet {
            println!("      expected {expectation}");
        }
    }

    /// The closing line, and whether all was well.
    pub(super) fn close(&self) -> bool {
        println!("\n{} as expected, {} not", self.good, self.bad);
        self.bad == 0
    }
}

fn line(colour: bool, good: bool, what: &str, outcome: &str, took: Option<Duration>) -> String {
    let mark = match (good, colour) {
        (true, true) => "\x1b[32m✓\x1b[0m",
        (true, false) => "✓",
        (false, true) => "\x1b[31m✗\x1b[0m",
        (false, false) => "✗",
    };
    let took = took.map_or_else(String::new, |took| {
        format!("{:.1} ms", took.as_secs_f64() * 1000.0)
    });
    format!("  {mark} {what:<44} → {outcome:<44} {took:>10}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_columns() {
        let took = Some(Duration::from_micros(1500));
        let short = line(false, true, "GET /", "200", took);
        let long = line(false, false, "GET /spin with a key", "503 cpu budget", took);
        assert_eq!(short.find('→'), long.find('→'));
        assert_eq!(short.chars().count(), long.chars().count());
        assert!(short.ends_with("1.5 ms"));
    }

    #[test]
    fn a_line_without_a_time_ends_with_its_outcome() {
        assert!(line(false, true, "a", "b", None).ends_with("→ b"));
    }
}
