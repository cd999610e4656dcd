"""The transformer: a frozen backbone, and what clients train on top of it."""
