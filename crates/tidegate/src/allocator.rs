//! How the process's allocator is to behave: no pause that grows with what was freed before.
#![allow(unsafe_code, reason = "a single call, with its proof beside it")]

/// Switches off glibc's lists of small freed blocks (malloc(3), `M_MXFAST`); elsewhere it does nothing. A program calls it first thing in
/// `main`; the gateway does. A library can't decide this for its process.
///
/// Those lists have no bound, and are emptied all at once, by the thread that frees a large block next. After 10,000 connections had been cut
/// that stopped all others for 70 ms, in two of four such cuts. Without the lists the longest delay was 4 ms, and nothing became dearer:
/// each thread still has short lists of its own.
pub fn limit_pauses() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` sets a number in the allocator, under the allocator's lock, and takes no pointer.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}
