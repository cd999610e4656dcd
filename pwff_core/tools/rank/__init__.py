"""Preference pairs from a model behind an OpenAI-compatible server: `pwff rank`.

A backbone writes candidate responses, a ranking model says of two which is better on helpfulness and, apart, on
harmlessness. Each pair is asked twice with positions swapped; what is not agreed on is dropped and counted.
"""
