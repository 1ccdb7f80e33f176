"""Code that several test suites share: starting real servers, speaking to them, watching the machine."""
