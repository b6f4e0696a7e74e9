"""Stage 7: an edited model becomes a bundle: graph, packed weights, tokenizer, evaluation sets, parity, manifest."""
