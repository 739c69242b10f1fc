"""Data: loading, splits, mini-batches, augmentation, and preparing pictures of digits."""
