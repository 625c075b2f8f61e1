//! What was measured, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Number, Value};

use crate::place;

/// The metrics in the order in which they were measured.
#[derive(Default)]
pub struct Report {
    metrics: Vec<Metric>,
}

struct Metric {
    name: String,
    value: f64,
    target: Option<Target>,
    /// What the value is, in a few words.
    note: &'static str,
}

/// What a metric should not exceed.
#[derive(Clone, Copy)]
pub struct Target(f64);

impl Target {
    /// This or less.
    #[must_use]
    pub fn of(most: f64) -> Self {
        Self(most)
    }
}

impl Report {
    /// Adds a metric.
    pub fn add(&mut self, name: &str, value: f64, note: &'static str) {
        self.metrics.push(Metric {
            name: name.to_owned(),
            value,
            target: None,
            note,
        });
    }

    /// Adds a metric that has a target.
    pub fn add_with_target(&mut self, name: &str, value: f64, target: Target, note: &'static str) {
        self.add(name, value, note);
        if let Some(metric) = self.metrics.last_mut() {
            metric.target = Some(target);
        }
    }

    /// The table of all metrics.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<[String; 4]> = self.metrics.iter().map(Metric::row).collect();
        let head = ["metric", "value", "target", "what"].map(str::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&head).chain(&rows);
            cells
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2)];
        let mut table = String::new();
        for [name, value, target, note] in std::iter::once(&head).chain(&rows) {
            let [first, second, third] = widths;
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "{name:<first$}  {value:>second$}  {target:<third$}  {note}"
            );
        }
        table
    }

    /// Writes `<target>/bench/<file>`, one flat object, and returns its path.
    ///
    /// # Errors
    ///
    /// If a metric is no finite number, if two have one name, or if the file cannot
    /// be written.
    pub fn write(&self, file: &str) -> Result<PathBuf> {
        write(&self.added_to(Map::new())?, file)
    }

    /// Adds the metrics to those that `<target>/bench/<file>` has, and returns its path.
    ///
    /// # Errors
    ///
    /// As [`Report::write`], and if the file is not there or has one of them already.
    pub fn merge(&self, file: &str) -> Result<PathBuf> {
        let path = place::results().join(file);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let before = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no summary", path.display()))?;
        write(&self.added_to(before)?, file)
    }

    fn added_to(&self, mut summary: Map<String, Value>) -> Result<Map<String, Value>> {
        for metric in &self.metrics {
            let number = Number::from_f64(metric.value)
                .with_context(|| format!("`{}` is {}", metric.name, metric.value))?;
            let before = summary.insert(metric.name.clone(), Value::Number(number));
            ensure!(before.is_none(), "two metrics are called `{}`", metric.name);
        }
        Ok(summary)
    }
}

fn write(summary: &Map<String, Value>, file: &str) -> Result<PathBuf> {
    let dir = place::results();
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(file);
    let mut text = serde_json::to_string_pretty(summary)?;
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

impl Metric {
    fn row(&self) -> [String; 4] {
        let target = self.target.map_or_else(String::new, |Target(most)| {
            let met = if self.value <= most { "met" } else { "MISSED" };
            format!("≤ {most} {met}")
        });
        [
            self.name.clone(),
            shown(self.value),
            target,
            self.note.to_owned(),
        ]
    }
}

/// Large values to the unit, small ones with as many digits as mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_takes_nobodys_place() {
        let mut first = Report::default();
        first.add("a_ns", 1.5, "");
        let mut second = Report::default();
        second.add("b_ns", 2.5, "");
        let both = second
            .added_to(first.added_to(Map::new()).unwrap())
            .unwrap();
        assert_eq!(
            Value::Object(both.clone()),
            serde_json::json!({"a_ns": 1.5, "b_ns": 2.5})
        );
        let error = first.added_to(both).unwrap_err();
        assert_eq!(error.to_string(), "two metrics are called `a_ns`");
    }

    #[test]
    fn the_table_is_aligned() {
        let mut report = Report::default();
        report.add("a_ns", 12_345.6, "a minimum");
        report.add_with_target("a_long_name", 1.25, Target::of(1.3), "a ratio");
        report.add_with_target("another", 1.35, Target::of(1.3), "");
        let expected = [
            "metric       value  target        what",
            "a_ns         12346                a minimum",
            "a_long_name  1.250  ≤ 1.3 met     a ratio",
            "another      1.350  ≤ 1.3 MISSED  ",
            "",
        ];
        assert_eq!(report.table(), expected.join("\n"));
    }
}
