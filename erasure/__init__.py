"""What every erasure method shares: base models, edits, generation and measurement."""
