"""Many configurations of many methods, each a curve of checkpoints against its cost: `spec` says what is swept, `trial` runs one
configuration, `worker` hands them out."""
