"""A fuzzer of everything that reads files, overrides or requests: python -m tests.fuzz --list."""
