"""The listings on a bundle's card, run as they stand there, write what torch writes."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune import loaders
from tests.parity.bundles import CONTEXT, Exported, all_edits, export, tiny

PROMPT = "The river"


@pytest.fixture(scope="module", params=["llama", "gpt2", "llama, 8-bit cache", "llama, float16"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("bundle")
    loaded = tiny(folder / "model", request.param.split(",")[0])
    recipe = replace(all_edits(loaded), kv_bits=8 if "8-bit" in request.param else 32)
    return export(loaded, recipe, folder / "bundle", activation_bits=16 if "float16" in request.param else 32)


def torchs_text(exported: Exported, *, stops: bool) -> str:
    tokens = exported.compressed.tokenizer.encode(PROMPT, add_special_tokens=False).ids
    assert len(tokens) + 32 <= CONTEXT
    with torch.inference_mode():
        for _ in range(32):
            logits = exported.compressed.model(torch.tensor([tokens]), use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
            if stops and tokens[-1] in exported.compressed.spec.eos_token_ids:
                break
    return exported.compressed.tokenizer.decode(tokens)


@pytest.mark.parametrize("code", [loaders.ONNXRUNTIME, loaders.GENAI], ids=["onnxruntime", "genai"])
def test_a_listing_writes_torchs_text(exported: Exported, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    if code is loaders.GENAI:
        pytest.importorskip("onnxruntime_genai")
    exec(compile(code, "listing", "exec"), {"folder": str(exported.folder), "prompt": PROMPT})
    written = capsys.readouterr().out.removesuffix("\n")
    expected = torchs_text(exported, stops=code is loaders.GENAI)
    if exported.manifest.spec.kv_bits != 32:
        # Torch of this comparison computes in float32, its cache too; the texts part where two tokens are nearly alike.
        assert written[: len(PROMPT) + 2] == expected[: len(PROMPT) + 2]
    elif code is loaders.GENAI:
        # Its decoder ends a text at the first byte that is no UTF-8, which random models soon write.
        assert expected.startswith(valid := written.rstrip("\ufffd"))
        assert len(valid) > len(PROMPT)
    else:
        assert written == expected


def test_the_card_shows_them_and_says_what_does_not_load(exported: Exported) -> None:
    card = (Path(exported.folder) / "README.md").read_text(encoding="utf-8")
    for code in (loaders.ONNXRUNTIME, loaders.GENAI, loaders.OPTIMUM):
        assert code.rstrip() in card
    lines = "\n".join(loaders.loaders_markdown(optimum="refused (its blocks differ)"))
    assert "does not load it: refused (its blocks differ)" in lines
    assert "ORTModelForCausalLM.from_pretrained" not in lines
