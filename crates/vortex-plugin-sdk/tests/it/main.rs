//! Reader and writer against the test vectors of the frame ABI, and the JSON
//! ABI against the host's own reader and writer.

mod c_header;
mod frames;
mod json;
mod output;
mod vectors;
