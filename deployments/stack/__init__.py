"""The local stack of `crunch up`: a Crunch server, a Prefect server and a worker in the background, in one folder."""
