"""Trained nets in use: locate, load safely, evaluate, predict, export."""
