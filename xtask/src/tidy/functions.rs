//! A function fits on a screen.

use super::SourceFile;
use super::ratchet::Ratchet;
use super::scan::code_only;

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Complaints about functions that are too long.
pub(crate) fn check(files: &[SourceFile], ratchet: &Ratchet) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        for function in functions(&file.text) {
            let allowed = ratchet.allowed(&format!("{}::{}", file.path, function.name), FUNCTION_LINES);
            if function.lines > allowed {
                complaints
                    .push(format!("{}:{}: fn {} has {} lines, allowed {allowed}", file.path, function.line, function.name, function.lines));
            }
        }
    }
    complaints
}

#[derive(Debug, PartialEq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions with a body, by a scan that knows braces and literals but not the grammar.
fn functions(text: &str) -> Vec<Function> {
    let code = code_only(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let (false, Some(length)) = (name.is_empty(), body_end(rest)) {
            let line = code[..at].matches('\n').count() + 1;
            found.push(Function { name, line, lines: rest[..length].matches('\n').count() + 1 });
        }
    }
    found
}

/// Where the body of a function ends, counted from behind `fn `; none for a declaration without a body.
fn body_end(rest: &str) -> Option<usize> {
    let mut depth = 0_i32;
    let mut brackets = 0_i32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' if depth == 0 => brackets += 1,
            ')' | ']' if depth == 0 => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_measured_and_declarations_are_not() {
        let text = "trait T { fn declared(&self) -> [u8; 2]; }\nfn short() {}\nfn long(x: [u8; 2]) -> u8 {\n    // }\n    x[0]\n}\n";
        let found = functions(text);
        let expected = |name: &str, line, lines| Function { name: name.to_owned(), line, lines };
        assert_eq!(found, [expected("short", 2, 1), expected("long", 3, 4)]);
    }

    #[test]
    fn a_long_function_is_a_complaint_unless_listed() {
        let text = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69));
        let files = [SourceFile { path: "src/a.rs".to_owned(), text }];
        assert_eq!(check(&files, &Ratchet::parse("").unwrap()), ["src/a.rs:1: fn f has 71 lines, allowed 70"]);
        assert_eq!(check(&files, &Ratchet::parse("src/a.rs::f 71 a match over all codes").unwrap()), [""; 0]);
    }
}
