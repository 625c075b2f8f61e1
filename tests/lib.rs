//! Holds nothing: the tests are in `tests/`, the guests in `fixtures/`.
