//! Compiles the XDP program for the BPF machine; the library embeds the object. Needs `clang`, nothing else.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "src/io/xdp/redirect.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_string());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("redirect.bpf.o");
    let little_endian = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "little");
    let status = Command::new(&clang)
        .args(["-target", if little_endian { "bpfel" } else { "bpfeb" }])
        // Debug information carries the types that the loader reads map definitions from.
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c", SOURCE, "-o"])
        .arg(&object)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("`{clang}` cannot compile {SOURCE} for BPF: {status}"),
        Err(error) => {
            panic!("cannot run `{clang}`: {error}; install it (`apt-get install clang`) or set CLANG to its path")
        }
    }
}
