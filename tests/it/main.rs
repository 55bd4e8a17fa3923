//! Integration tests: one binary, one module a subject.

#[allow(dead_code, reason = "used by the modules that need vectors")]
mod support;
