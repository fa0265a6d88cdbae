"""A GGUF file's model as an ordinary folder in bfloat16, which hf/ and vllm/ take alike.

    pip install transformers torch gguf accelerate
    python benchmarks/language_models/unpack_gguf.py MODEL.gguf FOLDER

Weights are those of the file, unpacked: what quantisation lost stays lost.
"""

import argparse
from pathlib import Path


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    where, name = str(given.gguf.parent), given.gguf.name
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.bfloat16)
    # The record of the packing would be saved too, and believed when the folder is loaded.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for attribute, value in (("quantization_method", None), ("is_quantized", False)):
        if hasattr(model, attribute):
            setattr(model, attribute, value)
    model.save_pretrained(given.folder)
    AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(given.folder)


if __name__ == "__main__":
    main()
