"""Preprocessing at any size: scikit-learn's transformers, fitted by passes that merge."""
