"""The only door to onnxruntime and psutil: sessions, decoding, memory, time, and processes of their own.

Nothing here imports torch, transformers, onnx or scipy, and onnxruntime is imported when a session is opened, so
that everything else of the base install works where no runtime is installed.
"""

__all__: list[str] = []
