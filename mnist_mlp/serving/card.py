"""What is told of a net wherever it goes: one line per fact."""

from mnist_mlp import __version__
from mnist_mlp.runs.tables import percent
from mnist_mlp.serving.dense import DenseNet
from mnist_mlp.serving.locate import TrainedNet
from mnist_mlp.training.classifier import DigitClassifier

INPUT = "uint8 (n, 28, 28): handwritten digits, 0 background to 255 ink, framed as MNIST's (mnist_mlp.prepare)"
OUTPUT = "float32 (n, 10): probabilities of the digits 0 to 9"


def model_card(net: TrainedNet, model: DigitClassifier, dense: DenseNet) -> dict[str, str]:
    """Facts by name, as texts. Of a checkpoint alone they are fewer: accuracy and origin are in its run folder."""
    parameters = sum(weights.numel() for weights in model.parameters())
    sizes = "-".join(map(str, dense.sizes))
    facts = {
        "name": net.name,
        "net": f"MLP {sizes}, {dense.activation}, {parameters:,} parameters",
        "input": INPUT,
        "output": OUTPUT,
        "input scaling": f"{model.hparams['normalization']} (part of the net)",
    }
    result = net.result()
    if result is not None:
        test, data = result.metrics.get("test/accuracy"), result.data
        facts["test accuracy"] = f"{percent(test)} of {data['test']:,} images ({data['source']})"
        facts["trained on"] = (
            f"{data['train']:,} images ({data['source']}), {result.epochs} epochs, seed {result.config['seed']}"
        )
        facts["fingerprint"] = result.fingerprint
        facts["commit"] = str(result.environment.get("commit") or "unknown")
    return {**facts, "made by": f"mnist_mlp {__version__}"}
