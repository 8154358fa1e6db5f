"""The wire: REST, JSON, `Authorization: Token KEY`."""
