"""Stage 6: turn a recipe into a smaller torch model; one technique a file.

Order of the passes: blocks, tokens, channels, ranks, bits. Tensors become smaller or fewer; nothing is only zeroed.
"""
