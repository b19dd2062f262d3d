//! Extensions: what runs beside the pipelines. Started first, stopped last.

pub mod health_check;
