//! Bytes to records. Pure: a payload and the input clock's stamp go in, records come out.

pub mod netflow;
