"""Four machines on one: network namespaces as hosts with a Prefect worker each, of which one is cut off, one killed."""
