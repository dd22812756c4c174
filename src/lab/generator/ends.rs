//! The name of an interface in a namespace in, its queues bound to AF_XDP sockets out.

use std::fmt;
use std::str::FromStr;

use super::super::LabError;
use super::super::namespace;
use super::super::place::Lab;
use crate::io::xdp::{self, End, Interface, Mode, Settings};
use crate::io::{ErrorClass, OpenError};

/// An interface, in a network namespace or in that of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndName {
    /// Name of the namespace.
    pub namespace: Option<String>,
    /// Name of the interface.
    pub interface: String,
}

impl FromStr for EndName {
    type Err = String;

    /// `NAMESPACE/INTERFACE`, or `INTERFACE` alone.
    fn from_str(text: &str) -> Result<EndName, String> {
        let (namespace, interface) = match text.split_once('/') {
            Some((namespace, interface)) => (Some(namespace), interface),
            None => (None, text),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_name(interface) || namespace.is_some_and(|name| !is_name(name)) {
            return Err(format!("`{text}`: expected NAMESPACE/INTERFACE such as `gen/gen0`, or an interface"));
        }
        Ok(EndName { namespace: namespace.map(str::to_owned), interface: interface.to_owned() })
    }
}

impl fmt::Display for EndName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.interface),
            None => f.write_str(&self.interface),
        }
    }
}

impl EndName {
    /// The same with a lab's word such as `gen` replaced by the namespace's name; other namespaces stay as they are.
    pub fn of_lab(mut self, lab: &Lab) -> EndName {
        let place = self.namespace.as_deref().and_then(|word| Lab::place(word).ok());
        if let Some(place) = place {
            self.namespace = Some(lab.namespace(place));
        }
        self
    }

    /// Does the work where the interface is.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        match &self.namespace {
            Some(name) if !namespace::exists(name) => Err(LabError::Usage(format!(
                "there is no namespace `{name}`: `ip netns list` lists those there are, `ringwall lab up` makes the lab's"
            ))),
            Some(name) => namespace::inside(name, work),
            None => Ok(work()),
        }
    }

    /// Opens all queues of the interface in copy mode, with rings of this many slots.
    ///
    /// # Errors
    /// What the kernel says, with the cure.
    pub fn open(&self, slots: u32) -> Result<End, LabError> {
        self.inside(|| {
            let interface = Interface::query(&self.interface)?;
            let settings = Settings {
                uplink: self.interface.clone(),
                queues: interface.receive_queues.min(interface.transmit_queues).max(1),
                receive_ring: slots,
                transmit_ring: slots,
                mode: Mode::Auto,
                ..Settings::default()
            };
            xdp::open_end(&settings)
        })?
        .map_err(|error: OpenError| {
            let text = format!("{self}: {error}");
            match error.class() {
                ErrorClass::Configuration => LabError::Usage(text),
                ErrorClass::Environment | ErrorClass::Defect => LabError::Privilege(text),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_interface_with_or_without_a_namespace() {
        let check = |text: &str, expected: Option<(Option<&str>, &str)>| {
            let found = text.parse::<EndName>().ok();
            let found = found.as_ref().map(|end| (end.namespace.as_deref(), end.interface.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("gen/gen0", Some((Some("gen"), "gen0")));
        check("eth1", Some((None, "eth1")));
        check("", None);
        check("/x", None);
        check("x/", None);
        check("../x", None);
        check("a/b/c", None);
        let lab = Lab::new("rw9-".parse().unwrap(), None);
        let named = |text: &str| text.parse::<EndName>().unwrap().of_lab(&lab).to_string();
        assert_eq!((named("gen/gen0"), named("other/x")), ("rw9-gen/gen0".to_owned(), "other/x".to_owned()));
    }
}
