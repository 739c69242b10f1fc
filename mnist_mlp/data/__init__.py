"""The digits: files, download and sample, splits, blocks of mini-batches, augmentation. Knows no network."""
