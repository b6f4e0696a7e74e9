"""Ten lines that load a bundle without EdgePrune, for its card and for reports; tests run them as they stand here."""

from edgeprune.runtime.huge_pages import TUNABLES

__all__ = ["loaders_markdown"]

ONNXRUNTIME = """\
import numpy as np, onnxruntime as ort
from tokenizers import Tokenizer
session, tokenizer = ort.InferenceSession(f"{folder}/model.onnx"), Tokenizer.from_file(f"{folder}/tokenizer.json")
inputs, names = session.get_inputs(), [output.name for output in session.get_outputs()]
kinds = {"tensor(int8)": "int8", "tensor(float16)": "float16", "tensor(float)": "float32"}
feed = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), kinds[i.type]) for i in inputs if i.name.startswith("past")}
tokens = new = tokenizer.encode(prompt, add_special_tokens=False).ids
for _ in range(32):
    feed |= {"input_ids": np.array([new], np.int64), "attention_mask": np.ones((1, len(tokens)), np.int64),
             "position_ids": np.arange(len(tokens), dtype=np.int64)[None, -len(new):]}
    found = dict(zip(names, session.run(names, {i.name: feed[i.name] for i in inputs})))
    feed |= {name.replace("present", "past_key_values"): found[name] for name in names if name != "logits"}
    new = [int(found["logits"][0, -1].argmax())]
    tokens = tokens + new
print(tokenizer.decode(tokens))
"""

GENAI = """\
import onnxruntime_genai as og
model = og.Model(folder)
tokenizer, parameters = og.Tokenizer(model), og.GeneratorParams(model)
tokens = tokenizer.encode(prompt)
parameters.set_search_options(max_length=len(tokens) + 32)
generator = og.Generator(model, parameters)
generator.append_tokens(tokens)
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
"""

OPTIMUM = """\
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer
model, tokenizer = ORTModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=32)[0]))
"""


def loaders_markdown(*, optimum: str | None = None) -> list[str]:
    """Lines of Markdown: one listing a loader; `folder` and `prompt` are the reader's to set.

    Args:
        optimum: as in the manifest: `loads`, or `refused (reason)`, which stands in the place of its listing; None
            where nobody asked.
    """
    lines = [
        f"With `folder` the bundle's and `prompt` some text. On Linux each may be quicker with `{TUNABLES}` in "
        "the environment (glibc 2.35 or newer). In plain onnxruntime (`pip install tokenizers`):",
        "",
    ]
    lines += [*_listing(ONNXRUNTIME), "In onnxruntime-genai:", "", *_listing(GENAI)]
    if optimum is not None and optimum != "loads":
        return [*lines, f"optimum's ORTModelForCausalLM does not load it: {optimum}.", ""]
    where = "" if optimum else ", where the manifest says that it does"
    return [*lines, f"In optimum-onnx{where}:", "", *_listing(OPTIMUM)]


def _listing(code: str) -> list[str]:
    return ["```python", *code.rstrip().splitlines(), "```", ""]
