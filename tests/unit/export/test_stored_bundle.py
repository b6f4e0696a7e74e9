"""The bundle of a model that stays in files has the bytes of the one made in memory."""

from pathlib import Path

import torch

from edgeprune.artifacts import hash_file
from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.capture_by_block import capture_by_block
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.export.bundle import export_bundle
from edgeprune.export.evaluation import EvaluationText
from edgeprune.export.parity import STORED_GREEDY_TOKENS
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.intake.stored.load import load_mapped
from edgeprune.intake.stored.store import WeightStore
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe, SiteEdit
from tests.tiny import TINY_TEXT, write_tiny_llama

TOKENS = torch.randint(0, 512, (6, 40), generator=torch.Generator().manual_seed(5)).int()


def exported(dense: LoadedModel, stats: CalibrationStats, folder: Path) -> BundleManifest:
    sites = tuple(
        SiteEdit(name=site.name, kernel="int4_b32_a4", rank=12 if block.index == 1 else None)
        for block in dense.spec.blocks
        for site in block.sites
        if block.index != 0
    )
    recipe = Recipe(
        model_hash=dense.spec.model_hash, context_tokens=32, drop_blocks=(0,), sites=sites, table_kernel="int4_b32_a4"
    )
    return export_bundle(
        compress_model(dense, recipe, stats, progress=NullProgress()),
        recipe,
        folder=folder,
        label="recipe",
        workload=Workload(context_tokens=32, thread_count=1),
        texts=[EvaluationText(name="domain", documents=[TINY_TEXT])],
        choices=[],
        budget=None,
        predicted=None,
        versions={},
        progress=NullProgress(),
    )


def test_the_files_are_the_same(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", dtype="bfloat16", tie_word_embeddings=False)
    dense, store = load_model(folder), WeightStore(tmp_path / "kept", kept_above_bytes=0)
    mapped = load_mapped(folder, store)
    expected = exported(dense, capture(dense, TOKENS), tmp_path / "held")
    found = exported(mapped, capture_by_block(mapped, TOKENS, store=store), tmp_path / "stored")
    for name in ("model.onnx", "model.onnx.data", "config.json", "genai_config.json"):
        assert hash_file(tmp_path / "held" / name) == hash_file(tmp_path / "stored" / name), name
    assert found.parity.exact_logit_difference == expected.parity.exact_logit_difference
    assert found.parity.greedy_tokens == expected.parity.greedy_tokens[:STORED_GREEDY_TOKENS]
    assert found.texts == expected.texts
