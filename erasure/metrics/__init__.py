"""Metrics: pure functions over images, features or judgements, one file a metric."""
