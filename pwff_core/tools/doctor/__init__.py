"""`pwff doctor`: what can be wrong with a store, with what lies beside it and with the computer, and what mends it.

`patient` looks everything up once. `files`, `runs`, `leftovers` and `computer` each judge a part of it and yield
`findings`; `mending` does what is safe; `command` is what the terminal calls. Nothing here needs torch.
"""
