"""The JSON types of the HTTP API: what comes in (`request`), what goes out (`answer`), and what makes them
strict (`strict`). Shared by api and sdk."""
