"""The demo: a small made-up world, a language model that has learned it, and the script that makes both.

Everything here is called a demo and carries no claim of quality. Importing this package costs nothing; only
`edgeprune.demo.train` and the modules it uses import torch.
"""
