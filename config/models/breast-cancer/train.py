"""Train the two versions of the `breast-cancer` model and write them beside this file.

Run (Python 3.11 or newer, a few seconds on one core):

    python -m venv .venv && . .venv/bin/activate
    pip install -r requirements.txt
    python train.py

Version 1 is a logistic regression with its feature scaling inside the graph, version 2 is a
LightGBM ensemble.  The data comes with scikit-learn, so nothing is downloaded.  The script
prints the metrics of the held-out rows, measured through ONNX Runtime on the exported files,
and writes 1/ and 2/, each with model.onnx, manifest.yaml, samples/*.json and golden/*.json.
"""

import json
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import onnxruntime
import sklearn
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightgbmFloatTensor
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 1234
HELD_OUT_ROWS = 171
FEATURES = 30
LABELS = ["malignant", "benign"]
OPSET = {"": 17, "ai.onnx.ml": 3}
LIGHTGBM_OPSET = 15  # the newest that onnxmltools writes
IR_VERSION = 8


def load():
    """Raw, unscaled features and labels, split by a fixed seed with the classes in proportion."""
    data = load_breast_cancer()
    assert list(data.target_names) == LABELS
    return train_test_split(
        data.data, data.target, test_size=HELD_OUT_ROWS, random_state=SEED, stratify=data.target
    )


def train_logistic(x, y):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED))
    return pipeline.fit(x, y)


def train_lightgbm(x, y):
    model = lightgbm.LGBMClassifier(
        n_estimators=120,
        learning_rate=0.08,
        num_leaves=12,
        min_child_samples=10,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.6,
        random_state=SEED,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        verbose=-1,
    )
    # Trained on the same float32 values that the graph compares with its thresholds.
    return model.fit(x.astype(np.float32), y)


def export_logistic(pipeline):
    """Graph names as in the contract: features -> label, probabilities."""
    return to_onnx(
        pipeline,
        name="breast-cancer-1",
        initial_types=[("features", FloatTensorType([None, FEATURES]))],
        options={id(pipeline): {"zipmap": False}},
        target_opset=OPSET,
    )


def export_lightgbm(model):
    """Keeps the exporter's customary input name `float_input`; the manifest maps it."""
    return convert_lightgbm(
        model,
        name="breast-cancer-2",
        initial_types=[("float_input", LightgbmFloatTensor([None, FEATURES]))],
        target_opset=LIGHTGBM_OPSET,
        zipmap=False,
    )


def save(proto, path):
    """Name the first axis of every input and output `batch`, settle the opsets, check, write."""
    # onnxmltools writes older operator sets and skl2onnx lists one twice; these graphs' operators
    # mean the same in the sets named here.
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(*item) for item in OPSET.items())
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def predict(path, x):
    """Labels and probabilities of the exported file, run by ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.astype(np.float32)}
    return session.run(["label", "probabilities"], feed)


def measure(path, x, y):
    label, probabilities = predict(path, x)
    return {
        "accuracy": accuracy_score(y, label),
        "logLoss": log_loss(y, probabilities),
        "rocAuc": roc_auc_score(y, probabilities[:, 1]),
        "malignantRecall": recall_score(y, label, pos_label=0),
    }


def choose_samples(x, y, paths):
    """Held-out rows: ordinary ones that every version gets right, and one that is hard."""
    predictions = [predict(path, x) for path in paths]
    right = np.all([label == y for label, _ in predictions], axis=0)
    malignant, benign = (np.flatnonzero(right & (y == c)) for c in (0, 1))
    # The probability given to the true class, by whichever version gives it least.
    belief = np.min([p[np.arange(len(y)), y] for _, p in predictions], axis=0)
    return {
        "malignant": malignant[:1],
        "benign": benign[:1],
        "three-rows": [benign[1], malignant[1], benign[2]],
        "hard": [int(np.argmin(belief))],
    }


def write_samples(folder, samples, x, y):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in samples.items():
        labels = [int(y[row]) for row in rows]
        request = {
            "id": f"breast-cancer-{name}",
            "parameters": {"label": labels[0] if len(labels) == 1 else ",".join(map(str, labels))},
            "inputs": [
                {
                    "name": "features",
                    "datatype": "FP32",
                    "shape": [len(rows), FEATURES],
                    "data": x[rows].ravel().tolist(),
                }
            ],
        }
        text = json.dumps(request, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_golden(path):
    """A sample with the outputs that a version must give for it before it is served."""
    sample = json.loads((path.parent / "samples" / "three-rows.json").read_text(encoding="utf-8"))
    features = sample["inputs"][0]
    x = np.array(features["data"]).reshape(features["shape"])
    case = {
        "inputs": sample["inputs"],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": list(y.shape), "data": y.ravel().tolist()}
            for name, datatype, y in zip(("label", "probabilities"), ("INT64", "FP32"), predict(path, x))
        ],
    }
    folder = path.with_name("golden")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(case, separators=(",", ":"))
    (folder / "three-rows.json").write_text(text + "\n", encoding="utf-8")


def write_manifest(path, summary, framework, method, metrics, mapping, rows):
    lines = "\n".join(f"  {name}: {value:.4f}" for name, value in metrics.items())
    text = f"""\
summary: {summary}
owner: Penstock maintainers
licence: Apache-2.0
data:
  name: Breast Cancer Wisconsin (Diagnostic)
  source: PyPI package scikit-learn {sklearn.__version__} (sklearn.datasets.load_breast_cancer)
  licence: CC BY 4.0
  split: {rows[0]} training rows, {rows[1]} held-out rows (stratified, seed {SEED})
training:
  script: ../train.py
  framework: {framework}
  seed: {SEED}
  method: {method}
metrics:
{lines}
  rows: {rows[1]}
domain:
  features: {{ min: 0, max: 4300, note: "30 raw measurements, unscaled, in the data set's own order" }}
labels: {json.dumps(LABELS)}
batching:
  rows: independent
{mapping}"""
    path.write_text(text, encoding="utf-8")


def main():
    x_train, x_test, y_train, y_test = load()
    rows = (len(x_train), len(x_test))
    paths = [HERE / "1" / "model.onnx", HERE / "2" / "model.onnx"]
    save(export_logistic(train_logistic(x_train, y_train)), paths[0])
    save(export_lightgbm(train_lightgbm(x_train, y_train)), paths[1])

    texts = [
        {
            "summary": "Tells malignant from benign breast masses by logistic regression on 30 cell measurements.",
            "framework": f"scikit-learn {sklearn.__version__}",
            "method": "StandardScaler and LogisticRegression with default settings, both inside the graph.",
            "mapping": "",
        },
        {
            "summary": "Tells malignant from benign breast masses by gradient-boosted trees on 30 cell measurements.",
            "framework": f"lightgbm {lightgbm.__version__}",
            "method": "LightGBM, 120 trees of at most 12 leaves, with row and column sampling; nothing tuned on the held-out rows.",
            "mapping": "inputs:\n  features: { graph: float_input }\n",
        },
    ]
    samples = choose_samples(x_test, y_test, paths)
    for path, text in zip(paths, texts):
        metrics = measure(path, x_test, y_test)
        write_manifest(path.with_name("manifest.yaml"), metrics=metrics, rows=rows, **text)
        write_samples(path.with_name("samples"), samples, x_test, y_test)
        write_golden(path)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"breast-cancer/{path.parent.name}  {shown}  rows {rows[1]}")


if __name__ == "__main__":
    main()
