//! `cargo xtask wasm`: the crates without I/O build for a machine without a system, and ask it for nothing.

use std::path::Path;
use std::process::Command;

const PURE: [&str; 3] = ["core", "ws", "wire"];
const TARGET: &str = "wasm32-unknown-unknown";
/// The section of a WebAssembly module that lists what it needs from its host.
const IMPORTS: u8 = 2;

/// Links each crate whole, dead code too, and looks at what the module imports.
pub(crate) fn run() -> Result<(), String> {
    let root = super::tidy::root()?;
    for name in PURE {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&root).args(["rustc", "--locked", "--lib", "--target", TARGET, "--crate-type", "cdylib", "--package"]);
        // Without these the linker would drop all that nobody calls, and with it what that needs.
        cargo.arg(format!("tidegate-{name}")).args(["--", "-C", "link-dead-code=yes", "-C", "link-arg=--no-gc-sections"]);
        let status = cargo.status().map_err(|e| format!("{cargo:?}: {e}"))?;
        if !status.success() {
            return Err(format!("tidegate-{name} does not build for {TARGET}"));
        }
        let module = target_folder(&root).join(TARGET).join(format!("debug/tidegate_{name}.wasm"));
        let bytes = std::fs::read(&module).map_err(|e| format!("{}: {e}", module.display()))?;
        match imports(&bytes) {
            Some(0) => println!("tidegate-{name}: {} KiB of WebAssembly, no imports", bytes.len() / 1024),
            Some(count) => {
                return Err(format!(
                    "tidegate-{name} needs {count} things from its host: see `wasm-objdump -x -j Import {}`",
                    module.display()
                ));
            }
            None => return Err(format!("{} is no WebAssembly module", module.display())),
        }
    }
    Ok(())
}

fn target_folder(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}

/// How many imports a module has (WebAssembly core specification, section 5.5); none if it is not one.
fn imports(module: &[u8]) -> Option<u32> {
    let mut rest = module.strip_prefix(b"\0asm\x01\0\0\0")?;
    while let Some((&section, behind)) = rest.split_first() {
        let (length, body) = number(behind)?;
        if section == IMPORTS {
            return number(body).map(|(count, _)| count);
        }
        rest = body.get(length as usize..)?;
    }
    Some(0)
}

/// An unsigned LEB128 number and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0_u32;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::imports;

    #[test]
    fn imports_are_counted() {
        let head = b"\0asm\x01\0\0\0".as_slice();
        let types = [1, 4, 1, 0x60, 0, 0].as_slice();
        let import = [2, 7, 1, 1, b'a', 1, b'b', 0, 0].as_slice();
        assert_eq!(imports(&[head, types].concat()), Some(0));
        assert_eq!(imports(&[head, types, import].concat()), Some(1));
        assert_eq!(imports(b"\x7fELF"), None);
        assert_eq!(imports(&[head, &[1, 0xff]].concat()), None);
    }
}
