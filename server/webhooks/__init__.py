"""Sending what webhooks are to be told: signed, only to addresses of the open network, and again until it arrives."""
