"""The engine: everything that computes with torch.

The law of this room: torch, transformers, peft and safetensors are imported here and in `tools` alone; `models`,
`stages`, `setup` and `federation` know no store; nothing here draws. The pages never import it: they start it as a
process and read what it writes.
"""
