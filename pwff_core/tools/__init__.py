"""Commands beside the way of a run: rank pairs, examine a store, make the embedded default.

The law of this room: it imports from any room but the command line, and only the command line imports from it.
"""
