//! A JSON value in, the same as YAML out, in the block style and key order of `calicoctl get -o yaml`.

use std::fmt::Write;

use serde_json::{Map, Number, Value};

use crate::base::document::{Kind, Node};

/// The value as a YAML document, without `---`.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut text, map, 0, false),
        Value::Array(items) if !items.is_empty() => array(&mut text, items, 0),
        other => {
            let _ = writeln!(text, "{}", scalar(other));
        }
    }
    text
}

/// A value of a document that was read, as JSON.
pub fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(is) => Value::Bool(*is),
        Kind::Int(number, text) => match i64::try_from(*number) {
            Ok(number) => Value::from(number),
            Err(_) => Value::String(text.clone()),
        },
        Kind::Float(number, text) => {
            let whole = *number as i64;
            if whole as f64 == *number {
                return Value::from(whole);
            }
            Number::from_f64(*number).map_or_else(|| Value::String(text.clone()), Value::Number)
        }
        Kind::String(text) => Value::String(text.clone()),
        Kind::List(items) => items.iter().map(value).collect(),
        Kind::Map(entries) => {
            Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), value(node))).collect())
        }
    }
}

/// `is_item`: the first key stands behind the dash of a list.
fn object(text: &mut String, map: &Map<String, Value>, level: usize, is_item: bool) {
    for (at, (key, value)) in map.iter().enumerate() {
        let margin = if is_item && at == 0 { 0 } else { level * 2 };
        let _ = write!(text, "{:margin$}{}:", "", string(key));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                object(text, inner, level + 1, false);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                array(text, items, level);
            }
            other => {
                let _ = writeln!(text, " {}", scalar(other));
            }
        }
    }
}

fn array(text: &mut String, items: &[Value], level: usize) {
    for item in items {
        let _ = write!(text, "{:margin$}- ", "", margin = level * 2);
        match item {
            Value::Object(map) if !map.is_empty() => object(text, map, level + 1, true),
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                array(text, items, level + 1);
            }
            other => {
                let _ = writeln!(text, "{}", scalar(other));
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// The text plain where every reader takes it for a string, else in the double quotes of JSON, which are YAML's too.
fn string(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let is_plain = starts_plain
        && !text.chars().any(char::is_control)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' ']);
    // A dot too many, a slash or a dash keeps these from being numbers.
    let is_prefix = text.contains(['.', '/'])
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/'))
        && (text.contains('/') || text.matches('.').count() > 1);
    if is_plain || is_prefix { text.to_string() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::Diagnostics;
    use crate::base::document;
    use serde_json::json;

    #[test]
    fn values_read_back_as_they_were() {
        let check = |value: Value, expected: &str| {
            let text = yaml(&value);
            assert_eq!(text, expected);
            let read = document::parse(&"x.yaml".into(), &text, &mut Diagnostics::new());
            assert_eq!(read.first().map(|document| super::value(&document.root)), Some(value));
        };
        check(json!({"a": 1, "b": {"c": "x"}, "d": []}), "a: 1\nb:\n  c: x\nd: []\n");
        check(
            json!({"spec": {"nets": ["10.0.0.0/8", "::/0"], "x": [{"a": 1, "b": [2]}]}}),
            "spec:\n  nets:\n  - 10.0.0.0/8\n  - \"::/0\"\n  x:\n  - a: 1\n    b:\n    - 2\n",
        );
        check(
            json!(["yes", "22:50", "80", "a == 'b'", "a: b", "", "1.5", "1.2.3.4"]),
            "- \"yes\"\n- \"22:50\"\n- \"80\"\n- a == 'b'\n- \"a: b\"\n- \"\"\n- \"1.5\"\n- 1.2.3.4\n",
        );
        check(json!([[1, 2], {"k": null}]), "- \n  - 1\n  - 2\n- k: null\n");
        check(json!({"! x": true}), "\"! x\": true\n");
    }
}
