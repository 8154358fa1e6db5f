"""What may happen to the catalogue and to a dataset's life. Only these functions write state, fence, lease and attempt.

Each change is one short transaction, together with its status row, and refuses with `crunch_tasks.errors.Refused`.
"""
