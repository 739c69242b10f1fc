"""Locate, load, evaluate and export trained networks, and predict with them."""
