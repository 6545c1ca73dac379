//! embed-axum.
fn main() {}
