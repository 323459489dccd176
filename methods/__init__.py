"""Erasure methods: one package each. A method imports ldm and erasure, never another method (RECE alone builds on UCE)."""
