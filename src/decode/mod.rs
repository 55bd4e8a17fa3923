//! Bytes to records. Pure: bytes and the input clock's stamp go in, records come out.

pub mod netflow;
pub mod packet;
pub mod slices;
pub mod text;
