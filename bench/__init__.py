"""Executions over HTTP beside the bare interpreters, on this machine, in one sitting. Run with `make bench`."""
