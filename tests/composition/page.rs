//! What the guide says is shown by a test, which it names.
