"""Proofs that a grown model computes the same function."""
