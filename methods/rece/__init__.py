"""RECE: Reliable and Efficient Concept Erasure (arXiv 2407.12383), on top of UCE's closed form. See README.md."""
