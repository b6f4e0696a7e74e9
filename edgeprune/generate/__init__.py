"""Text from a bundle on the device itself: plain onnxruntime and the bundle's tokenizer, no torch."""
