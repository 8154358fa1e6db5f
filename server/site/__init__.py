"""A ready Django site around the app, set up from the environment."""
