"""Forward and backward passes: sequences packed, log-probs of their tokens."""
