"""Several runs side by side: records and configs in; numbers, words and tables out. Nothing is played or printed here.

presets: what is compared (Fig. 4, Fig. 5), as rows · outcomes: what a run came to, and tables of it · claims: what the
paper says, as rows · verdicts: whether that holds here, by paired differences · timing: how long it will take.
"""
