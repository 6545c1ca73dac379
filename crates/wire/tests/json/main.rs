//! The JSON dialect from outside: the shared vectors, round trips, and what is refused.

mod malformed;
mod mutations;
mod round_trip;
mod shapes;
mod vectors;
