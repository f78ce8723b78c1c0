"""Whether patched libraries still pass their own test suites."""
