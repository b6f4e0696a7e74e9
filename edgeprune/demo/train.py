"""Make the demo from a seed: tokenizer, model, stored texts and questions.

    python -m edgeprune.demo.train --seed 0 --steps 1500 --threads 1 --out DIR

Equal seed, steps and thread count give equal weights on equal hardware and library versions. `DIR` gets the layout of
the package data; `DIR/model/training.json` records how it was made and what it scores. `--minutes` sets the number of
steps from this machine's own speed, so only `--steps` can be repeated elsewhere.

Training has two cycles of the rate. The first decays the weights, which is what the facts are learned best with; the
second, short one does not, which fills the small singular values again: without it the demo would lose little when its
ranks are halved (1.97 times the loss instead of 2.2), and be a poor place to show compression.

With glibc, `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000` in the environment keeps the large buffers of a
step mapped, which saves about a sixth of the time.
"""

import argparse
import itertools
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from edgeprune.demo.evaluation import bits_per_byte, question_accuracy
from edgeprune.demo.model import WINDOW_TOKENS, build_network, network_config
from edgeprune.demo.muon import Muon
from edgeprune.demo.paths import DEMO_DOMAINS, DEMO_QUESTION_DOMAINS, model_path_under
from edgeprune.demo.stream import training_windows
from edgeprune.demo.tokenizer import learn_tokenizer, save_tokenizer
from edgeprune.demo.world import World

__all__ = ["DEFAULT_STEPS", "cycle_lengths", "fit", "main"]

DEFAULT_STEPS = 1500
"""Steps of the shipped demo: 58 minutes on one core. By 2,800 steps rare facts are known as well as frequent ones."""

WEIGHT_DECAY = 0.04
"""Of the weight matrices in the first cycle; see `Muon`."""

BATCH_SIZE = 16
"""Windows per step."""

TOKENIZER_DOCUMENTS = 6000
"""Training documents from which the tokenizer learns."""

MUON_RATE = 0.014
"""Highest rate of the weight matrices; see `Muon`."""

ADAM_RATE = 0.005
"""Highest rate of the embedding and the norms."""

WARMUP_FRACTION = 0.03
"""Steps over which the rates rise, as a fraction of all."""

DECAY_FRACTION = 0.5
"""Steps over which the rates fall at the end, as a fraction of all."""

_LOG_EVERY = 20

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    world = World(args.seed)
    tokenizer = learn_tokenizer(text for _, text in itertools.islice(world.training_documents(), TOKENIZER_DOCUMENTS))
    network = build_network(network_config(tokenizer.get_vocab_size()), seed=args.seed)
    steps = args.steps if args.minutes is None else _steps_for(args.minutes, network, _batches(world, tokenizer))
    loss = fit(network, _batches(world, tokenizer), steps=steps)
    network.to(torch.bfloat16)
    _save(network, tokenizer, args.out)
    world.write_splits(args.out)
    report = {
        "seed": args.seed,
        "steps": steps,
        "tokens": steps * BATCH_SIZE * WINDOW_TOKENS,
        "threads": args.threads,
        "train_loss_nats_per_token": round(loss, 4),
        "train_s": round(time.perf_counter() - started, 1),
        **_scores(network, tokenizer, world),
        "versions": _versions(),
    }
    path = model_path_under(args.out) / "training.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _log.info("%s", json.dumps(report))
    return 0


def fit(network: LlamaForCausalLM, batches: Iterator[NDArray[np.int64]], *, steps: int) -> float:
    """Train the network in place; returns the mean loss of the last steps in nats per token.

    Between the cycles weights are rounded to bfloat16, so that the second may start from a stored first.
    """
    first, second = cycle_lengths(steps)
    loss = _cycle(network, batches, steps=first, decay=WEIGHT_DECAY)
    if second == 0:
        return loss
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.bfloat16())
    return _cycle(network, batches, steps=second, decay=0.0)


def cycle_lengths(steps: int) -> tuple[int, int]:
    """Steps of the cycle with weight decay and of the one without, which takes two fifteenths."""
    second = steps * 2 // 15
    return steps - second, second


def _cycle(network: LlamaForCausalLM, batches: Iterator[NDArray[np.int64]], *, steps: int, decay: float) -> float:
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    muon = Muon(matrices, rate=MUON_RATE, decay=decay)
    adam = torch.optim.AdamW(
        [p for p in network.parameters() if id(p) not in chosen], lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0
    )
    network.train()
    recent: list[float] = []
    started = time.perf_counter()
    for step in range(steps):
        factor = _rate_factor(step, steps)
        muon.rate = MUON_RATE * factor
        for group in adam.param_groups:
            group["lr"] = ADAM_RATE * factor
        loss = _loss(network, next(batches))
        loss.backward()
        muon.step()
        adam.step()
        adam.zero_grad(set_to_none=True)
        recent = [*recent[-(_LOG_EVERY - 1) :], loss.item()]
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:
            passed = time.perf_counter() - started
            mean = sum(recent) / len(recent)
            _log.info("step %d/%d loss %.4f, %.2f s per step", step + 1, steps, mean, passed / (step + 1))
    return sum(recent) / len(recent)


def _batches(world: World, tokenizer: Tokenizer) -> Iterator[NDArray[np.int64]]:
    return training_windows(tokenizer, world.training_documents(), batch_size=BATCH_SIZE, window_tokens=WINDOW_TOKENS)


def _loss(network: LlamaForCausalLM, batch: NDArray[np.int64]) -> torch.Tensor:
    tokens = torch.from_numpy(batch)
    logits = network(input_ids=tokens[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _rate_factor(step: int, steps: int) -> float:
    """Rise, hold, then fall along a cosine to a twentieth."""
    done = (step + 1) / steps
    if done < WARMUP_FRACTION:
        return done / WARMUP_FRACTION
    if done < 1 - DECAY_FRACTION:
        return 1.0
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (done - 1 + DECAY_FRACTION) / DECAY_FRACTION))


def _steps_for(minutes: float, network: LlamaForCausalLM, batches: Iterator[NDArray[np.int64]]) -> int:
    """Steps that fit into `minutes` here, by the time of a few trial steps that leave no trace in the weights."""
    start = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, batches, steps=2)
    started = time.perf_counter()
    fit(network, batches, steps=5)
    step_s = (time.perf_counter() - started) / 5
    network.load_state_dict(start)
    return max(1, int(minutes * 60 / step_s))


def _save(network: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    folder = model_path_under(out)
    save_tokenizer(tokenizer, folder)
    network.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def _scores(network: LlamaForCausalLM, tokenizer: Tokenizer, world: World) -> dict[str, object]:
    """Figures of the model as stored: its bfloat16 weights, computed in float32."""
    network.to(torch.float32)
    network.eval()
    per_byte = {
        domain: round(
            bits_per_byte(network, tokenizer, world.split_documents(domain, "report"), window_tokens=WINDOW_TOKENS), 4
        )
        for domain in DEMO_DOMAINS
    }
    accuracy = {
        domain: {
            group: round(fraction, 3)
            for group, fraction in question_accuracy(network, tokenizer, world.questions(domain)).items()
        }
        for domain in DEMO_QUESTION_DOMAINS
    }
    return {"bits_per_byte": per_byte, "accuracy": accuracy}


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
    }


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edgeprune.demo.train", description="Make the demo from a seed.")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world and of the weights")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="training steps (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=None, help="training time, instead of --steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets model/, text/ and choice/")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
