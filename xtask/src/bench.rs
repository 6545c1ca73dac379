//! `cargo xtask bench`.

pub(crate) fn run(_arguments: &[String]) -> Result<(), String> {
    Err("soon".to_owned())
}
