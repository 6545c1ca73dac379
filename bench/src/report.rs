//! Figures as a table for people and as JSON lines for programs.

use serde_json::{Map, Value, json};

/// One measure's result: a name, then figures with their units in the name (`p99_ms`).
#[derive(Clone, Debug)]
pub struct Report {
    measure: String,
    figures: Vec<(String, Value)>,
    /// Texts for programs alone.
    asides: Vec<(String, Value)>,
}

impl Report {
    /// An empty report of the measure `measure`.
    pub fn new(measure: impl Into<String>) -> Self {
        Self { measure: measure.into(), figures: Vec::new(), asides: Vec::new() }
    }

    /// Adds a number; what is none (`NAN`) is shown as `-`, and is null in JSON.
    #[must_use]
    pub fn number(mut self, name: &str, value: f64) -> Self {
        let rounded = if value.abs() < 100.0 { (value * 1000.0).round() / 1000.0 } else { value.round() };
        self.figures.push((name.to_owned(), json!(rounded)));
        self
    }

    /// Adds text.
    #[must_use]
    pub fn text(mut self, name: &str, value: impl Into<String>) -> Self {
        self.figures.push((name.to_owned(), Value::String(value.into())));
        self
    }

    /// Adds text that is in JSON only.
    #[must_use]
    pub fn aside(mut self, name: &str, value: impl Into<String>) -> Self {
        self.asides.push((name.to_owned(), Value::String(value.into())));
        self
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("measure".to_owned(), Value::String(self.measure.clone()));
        object.extend(self.figures.iter().chain(&self.asides).cloned());
        Value::Object(object).to_string()
    }

    /// One line of a table.
    pub fn line(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
        format!("{:28} {}", self.measure, figures.join("   "))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(large) if large.abs() >= 1000.0 => grouped(large as i64),
            _ => number.to_string(),
        },
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if number < 0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_json() {
        let report = Report::new("fanout")
            .number("per_cpu_second", 1_234_567.8)
            .number("p99_ms", 1.23456)
            .text("mode", "paced")
            .aside("date", "today");
        let read: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(read, json!({"measure": "fanout", "per_cpu_second": 1_234_568.0, "p99_ms": 1.235, "mode": "paced", "date": "today"}));
        assert_eq!(report.line(), "fanout                       per_cpu_second 1,234,568   p99_ms 1.235   mode paced");
    }
}
