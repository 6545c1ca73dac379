//! guarded-echo.
fn main() {}
