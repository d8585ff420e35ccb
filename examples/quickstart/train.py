"""Fits a logistic regression to the tumours in cells.csv. Standard library only.

Settings come from the environment: LEARNING_RATE, EPOCHS, SEED. The model and its metrics are written to the directory
that is given as the only argument.
"""
import csv
import json
import math
import os
import pathlib
import random
import statistics
import sys


def read(path):
    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    return names[:-1], [([float(value) for value in row[:-1]], int(row[-1])) for row in rows]


def scaler(rows):
    columns = list(zip(*(features for features, _ in rows)))
    return [statistics.fmean(column) for column in columns], [statistics.pstdev(column) for column in columns]


def scale(rows, means, deviations):
    return [([(x - m) / d for x, m, d in zip(features, means, deviations)], label) for features, label in rows]


def probability(weights, bias, features):
    score = bias + sum(w * x for w, x in zip(weights, features))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def epoch(weights, bias, rows, rate):
    """One pass of stochastic gradient descent; returns the new bias and the mean loss."""
    loss = 0.0
    for features, label in rows:
        guess = probability(weights, bias, features)
        loss -= math.log(guess if label else 1 - guess)
        step = rate * (guess - label)
        for index, x in enumerate(features):
            weights[index] -= step * x
        bias -= step
    return bias, loss / len(rows)


def evaluate(weights, bias, rows):
    scored = sorted((probability(weights, bias, features), label) for features, label in rows)
    correct = sum((guess >= 0.5) == bool(label) for guess, label in scored)
    positives = sum(label for _, label in scored)
    ranks = sum(rank for rank, (_, label) in enumerate(scored, 1) if label)
    pairs = positives * (len(scored) - positives)
    area = (ranks - positives * (positives + 1) / 2) / pairs
    return {"accuracy": round(correct / len(scored), 4), "auc": round(area, 4), "examples": len(scored)}


def main(out):
    rate = float(os.environ.get("LEARNING_RATE", "0.01"))
    epochs = int(os.environ.get("EPOCHS", "20"))
    shuffle = random.Random(int(os.environ.get("SEED", "1"))).shuffle
    names, rows = read(pathlib.Path(__file__).with_name("cells.csv"))
    shuffle(rows)
    train, test = rows[: len(rows) * 4 // 5], rows[len(rows) * 4 // 5 :]
    means, deviations = scaler(train)
    train, test = scale(train, means, deviations), scale(test, means, deviations)
    weights, bias = [0.0] * len(names), 0.0
    print(f"{len(train)} tumours to learn from, {len(test)} to test with, {len(names)} measurements each")
    for number in range(1, epochs + 1):
        shuffle(train)
        bias, loss = epoch(weights, bias, train, rate)
        if number == 1 or number % 5 == 0:
            print(f"epoch {number:3}  loss {loss:.4f}  accuracy {evaluate(weights, bias, test)['accuracy']:.3f}", flush=True)
    metrics = {"train": evaluate(weights, bias, train), "test": evaluate(weights, bias, test), "loss": round(loss, 4)}
    model = {"features": names, "means": means, "deviations": deviations, "weights": weights, "bias": bias}
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").write_text(json.dumps(model, indent=1) + "\n")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"test: accuracy {metrics['test']['accuracy']}, area under the curve {metrics['test']['auc']}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
