//! Results and talk in, standard output and standard error written, whoever reads them.

use std::io::{self, Write};

use super::arguments::exit;

/// Writes a result to standard output and gives `code` back. A reader that has seen enough is no error; one that cannot take the
/// result, such as a full disk, is.
pub fn result(text: &str, code: u8) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            talk(&format!("error: cannot write the result: {error}\n"));
            exit::ENVIRONMENT
        }
    }
}

/// Writes to standard error; if nobody listens, that is so.
pub fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
