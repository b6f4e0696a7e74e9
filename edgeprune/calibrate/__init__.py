"""Stage 2: from domain text to statistics of the model's inputs and the loss every possible edit would cost."""
