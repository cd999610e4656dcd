"""`pwff doctor`: what can be wrong with a store, with the files beside it and with the computer, and what mends it.

`snapshot` reads everything once. `files`, `runs`, `leftovers` and `computer` each judge a part of it and yield
`findings`; `repair` does what is safe; `command` is what the terminal calls. Nothing here needs torch.
"""
