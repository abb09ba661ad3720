"""Many configurations of many methods, each a curve against its cost: `spec` says what, `trial` runs one, `worker` hands them out."""
