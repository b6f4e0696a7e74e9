"""A trimmed tokenizer of SentencePiece's kinds in bundle and hf folder: every loader reads text as the model does."""

from pathlib import Path

import pytest

from edgeprune.chat_template import ChatTemplate
from edgeprune.compress.save import save_hf
from edgeprune.intake.load import load_model
from tests.parity.bundles import Exported, all_edits, export, genai_tokens
from tests.tiny import write_tiny_llama
from tests.tiny_sentencepiece import Kind, write_sentencepiece

TEXTS = ("The river rises in the hills", "naïve café 日本 🚀\n\tx", "  two  spaces", "a")


@pytest.fixture(scope="module", params=["BPE", "Unigram"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    loaded = load_model(write_sentencepiece(write_tiny_llama(folder / "model"), kind))
    made = export(loaded, all_edits(loaded), folder / "bundle")
    save_hf(made.compressed, made.recipe, folder / "hf")
    assert made.compressed.tokenizer.get_vocab_size() == 420
    return made


@pytest.mark.parametrize("place", ["bundle", "hf"])
def test_transformers_reads_text_as_the_model_does(exported: Exported, place: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.folder.parent / place)
    own = exported.compressed.tokenizer
    for text in TEXTS:
        ids = own.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, add_special_tokens=False) == ids
        assert tokenizer.decode(ids) == own.decode(ids)
    assert tokenizer.eos_token_id == exported.compressed.spec.eos_token_ids[0] == own.token_to_id("</s>")
    messages = [{"role": "user", "content": "Who?"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<s>user: Who?</s>"


def test_the_chat_template_goes_along(exported: Exported) -> None:
    assert ChatTemplate(Path(exported.folder))([{"role": "user", "content": "Who?"}]) == "<s>user: Who?</s>"


def test_genai_reads_a_bpe_as_the_model_does_and_refuses_a_unigram(exported: Exported) -> None:
    og = pytest.importorskip("onnxruntime_genai")
    assert genai_tokens(exported)[:4] == list(exported.manifest.parity.greedy_tokens)[:4]
    model = og.Model(str(exported.folder))
    own = exported.compressed.tokenizer
    if "Unigram" in exported.folder.parent.name:
        # It takes Unigrams of encoders alone, and reads those without falling back to bytes.
        with pytest.raises(RuntimeError, match="type_error"):
            og.Tokenizer(model)
        return
    tokenizer = og.Tokenizer(model)
    for text in TEXTS:
        ids = own.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text).tolist() == ids
        # Its decoder leaves the space that SentencePiece puts before a text.
        assert tokenizer.decode(ids).removeprefix(" ") == own.decode(ids)
