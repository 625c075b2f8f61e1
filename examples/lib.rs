//! Holds nothing: each example is a file in `examples/`.
