"""The language model: loading, encoding, sampling, log-probabilities, adapters. Only these files know templates, padding and −100."""
