"""The line to the server: the client of its API, the lease on a dataset, the outbox of statuses."""
