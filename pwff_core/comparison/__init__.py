"""Several runs side by side: records and configs go in, numbers, words and tables come out. Nothing is played here.

presets: the paper's two comparisons, as rows · outcomes: the numbers of a finished run, and their tables · claims: the
paper's sentences, as rows · verdicts: whether a claim holds here, by paired differences · timing: how long runs take.
"""
