"""Train a network, inspect its errors, and use it. Takes seconds: `python examples/first_run.py`."""

import mnist_mlp


def main() -> None:
    """Train on the 5,000 digits included in the package; leave out data.source to train on the full MNIST."""
    run = mnist_mlp.fit(
        {"data.source": "sample", "model.hidden_units": [256, 128], "optim.lr": 0.02, "trainer.max_epochs": 5},
        "outputs/train/first_run",
    )
    print(run)
    print(run.report())

    matrix = run.confusion_matrix
    pairs = [(true, predicted) for true in range(10) for predicted in range(10) if true != predicted]
    true, predicted = max(pairs, key=lambda pair: matrix[pair])
    count = f"{matrix[true, predicted]} of {matrix[true].sum()} images of a {true}"
    print(f"The most frequent error: {count} are classified as a {predicted}.")

    image = mnist_mlp.load_digits("sample", "").test_images[0]
    model = run.model()
    digit, probability = model.predict(image)[0], model.probabilities(image).max()
    print(f"The first test image is classified as a {digit}, with probability {probability:.1%}.")


if __name__ == "__main__":
    main()
