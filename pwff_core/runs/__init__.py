"""What is kept of a run, and how a run is started.

The law of this room: no torch, so pages may import everything here. Only `runs.store` opens a database.
"""
