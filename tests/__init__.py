"""The tests: real servers, no emulators, no sleeping."""
