//! Asks the linker for a smaller program where it is static, as it is handed out: what is relocated at
//! its start is told in a thirtieth of the room. It takes glibc 2.36 where it is built.

#![allow(clippy::print_stdout, reason = "this is how one speaks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
