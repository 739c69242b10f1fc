"""The bare loop as a whole program, which imports torch and nothing that it does not need itself.

Arguments: widths of the hidden layers (256-128-64, or 0), batch size, epochs, then as data.root, data.source,
data.val_size, and threads (0: as many as torch takes).
"""

import sys


def main() -> None:
    """Train one net."""
    widths, batch_size, epochs, root, source, val_size, threads = sys.argv[1:]
    import torch

    from mnist_mlp.benchmark.loops import bare_epochs, inputs
    from mnist_mlp.data.mnist import load_digits
    from mnist_mlp.data.module import split_digits
    from mnist_mlp.model import MLP

    if int(threads):
        torch.set_num_threads(int(threads))
    digits = load_digits(source, root)
    split = split_digits(digits.train_labels, int(val_size), 1.0, 0)
    images, labels = inputs(digits.train_images), digits.train_labels
    train, val = ((images[chosen], labels[chosen]) for chosen in (split.train, split.val))
    units = [] if widths == "0" else list(map(int, widths.split("-")))
    list(bare_epochs(MLP(len(units), units or [1]), train, val, int(batch_size), int(epochs)))


if __name__ == "__main__":
    main()
