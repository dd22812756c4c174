//! Gateway file and hardware profile in, a validated [`Plan`] out; what is written and what is valid are two types.
//!
//! [`load`] reads both files, [`gateway`] and [`profile`] decode what is written, [`plan`] makes of it what the other rooms rely on.
//! All faults of both files are reported in one run, each with its place.
//!
//! Architecture invariant: this room does not know the contents of policy.

pub mod gateway;
pub mod plan;
pub mod profile;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::base::decode::{Decoder, Field, Findings};
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::base::document;

pub use plan::{FlowLimits, Plan, PolicyPath, Ports, Timeouts};
pub use profile::{BusyPoll, Poll, Profile, XdpMode};

/// The version that both kinds of file name.
const API_VERSION: &str = "ringwall/v1";

/// A value and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T> Written<T> {
    fn at(field: &Field<'_, '_>, value: T) -> Written<T> {
        Written { value, span: field.span().clone() }
    }
}

/// Reads a gateway file and the hardware profile that it names, relative to it.
///
/// # Errors
/// All findings of both files, if there is an error among them; warnings and notes alone are in [`Plan::warnings`].
pub fn load(path: &Path) -> Result<Plan, Diagnostics> {
    let findings = Findings::new();
    let plan = read(path, &findings).and_then(|text| decode(path, &text, &findings));
    finish(plan, findings)
}

/// As [`load`], with the gateway file's text at hand; a hardware profile that it names is still read.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Plan, Diagnostics> {
    let findings = Findings::new();
    let plan = decode(path, text, &findings);
    finish(plan, findings)
}

/// Reads a hardware profile.
///
/// # Errors
/// As [`load`].
pub fn load_profile(path: &Path) -> Result<Profile, Diagnostics> {
    let findings = Findings::new();
    let profile = read(path, &findings).and_then(|text| decode_profile(path, &text, &findings));
    let found = findings.into_diagnostics();
    profile.filter(|_| !found.has_errors()).ok_or(found)
}

fn finish(plan: Option<Plan>, findings: Findings) -> Result<Plan, Diagnostics> {
    let mut found = findings.into_diagnostics();
    found.sort();
    match plan {
        Some(plan) if !found.has_errors() => Ok(Plan { warnings: found, ..plan }),
        _ => Err(found),
    }
}

fn read(path: &Path, findings: &Findings) -> Option<String> {
    let fault = match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return Some(text),
        Ok(Err(_)) => "not UTF-8 text".to_owned(),
        Err(e) => e.to_string(),
    };
    findings.push(Diagnostic::error("unreadable-file", format!("cannot read `{}`: {fault}", path.display())));
    None
}

fn decode(path: &Path, text: &str, findings: &Findings) -> Option<Plan> {
    let written = one_document(path, text, "Gateway", findings, gateway::decode)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let profile = match &written.profile {
        None => Some(Profile::default()),
        Some(name) => {
            let path = directory.join(&name.value);
            match fs::read_to_string(&path) {
                Ok(text) => decode_profile(&path, &text, findings),
                Err(e) => {
                    let message = format!("cannot read the hardware profile `{}`: {e}", path.display());
                    let help = "the path is relative to the gateway file; leave `profile` out for portable defaults";
                    findings.push(Diagnostic::error("unreadable-profile", message).at(&name.span).help(help));
                    None
                }
            }
        }
    };
    // A broken profile does not hide what is wrong with the gateway file.
    let plan = plan::validate(written, profile.clone().unwrap_or_default(), directory, findings);
    profile.and(plan)
}

fn decode_profile(path: &Path, text: &str, findings: &Findings) -> Option<Profile> {
    let written = one_document(path, text, "HardwareProfile", findings, profile::decode)?;
    Some(profile::validate(written, findings))
}

/// The one document of a file, after its version and kind.
fn one_document<T>(
    path: &Path,
    text: &str,
    kind: &str,
    findings: &Findings,
    read: impl FnOnce(&mut Decoder<'_, '_>) -> T,
) -> Option<T> {
    let file: Arc<str> = path.display().to_string().into();
    let mut syntax = Diagnostics::new();
    let documents = document::parse(&file, text, &mut syntax);
    let is_readable = !syntax.has_errors();
    findings.extend(syntax);
    let [first, rest @ ..] = documents.as_slice() else {
        if is_readable {
            let message = format!("`{file}` is empty: expected one document of kind `{kind}`");
            findings.push(Diagnostic::error("empty-file", message));
        }
        return None;
    };
    for extra in rest {
        let message = format!("a second document: expected one document of kind `{kind}` only");
        findings.push(Diagnostic::error("extra-document", message).at(&extra.root.span));
    }
    let mut map = Field::root(&first.root, findings).map()?;
    let is_right = is_of_kind(&mut map, kind);
    if !is_right {
        // Every field of another kind would be unknown; one error says it all.
        return None;
    }
    let written = read(&mut map);
    map.finish();
    Some(written)
}

/// Whether version and kind, where they are written, are the expected ones.
fn is_of_kind(map: &mut Decoder<'_, '_>, kind: &str) -> bool {
    let version = map.require("apiVersion");
    let found = map.require("kind");
    let is = |field: Option<Field<'_, '_>>, word| field.is_none_or(|field| field.word(&[(word, ())]).is_some());
    // Both are looked at, so that both are reported.
    is(version, API_VERSION) & is(found, kind)
}

#[cfg(test)]
mod tests;
