"""Many clients, one server, in virtual time: where it bends. `python -m benchmarks.simulation` says how to call it.

What the server does is its own code on a real database; what the clients do takes no time but in the simulation.
"""
