"""Stage 8: what a bundle really costs and gives on this device, measured in fresh processes.

Takes bundle folders alone: no torch, no corpus, no network. `run.validate_bundles` is the way in; each `child_*`
module is a process of its own that imports numpy, onnxruntime, psutil and msgspec and nothing else.
"""

__all__: list[str] = []
