"""Makes byte_level/ and characters/: two small tokenizers with what the official library makes of some strings.

    python make.py      (needs the package tokenizers; the same files on every run)

byte_level: NFC, the pattern of Qwen 2, 256 bytes and 3,200 merges, no special tokens around a text.
characters: Mistral's arrangement: spaces as U+2581, fallback to bytes, <s> before a text.
"""
import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SAMPLES = [
    "", " ", "Hello world", "Hello, world! It's 2024.", "  leading and trailing  ", "\n\n\t x\r\n", "a\u0301 e\u0301 \u00e9",
    "<|im_start|>user\nhi<|im_end|>", "<think>no</think>", "<s>x</s>", "\u65e5\u672c\u8a9e \u0440\u0443\u0441 \u0639\u0631\u0628\u064a",
    "\U0001f469\u200d\U0001f467 \U00010348", "x\u0000y", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "don\u2019t DON'T we'll", "1234567890 \u0663\u0664", "\u2581 marks\u2581", "\u00a0\u3000\u2028\u0085|",
]


def added(id, content, special):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": special}


def description(model, **parts):
    vocab, merges = model["vocab"], model["merges"]
    flags = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
               "fuse_unk": False, "byte_fallback": False, "ignore_merges": False} | parts.pop("flags", {})
    ordered = dict(sorted(vocab.items(), key=lambda entry: entry[1]))
    return {"version": "1.0", "truncation": None, "padding": None, **parts,
            "model": {"type": "BPE", **flags, "vocab": ordered, "merges": merges}}


def train(pre_tokenizer, normalizer, trainer, texts, model):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


def write(name, file, config):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    oracle = Tokenizer.from_str(text)
    golden = []
    for sample in SAMPLES:
        ids = oracle.encode(sample).ids
        golden.append({"text": sample, "ids": ids, "plain_ids": oracle.encode(sample, add_special_tokens=False).ids,
                       "decoded": oracle.decode(ids, skip_special_tokens=False),
                       "without_special": oracle.decode(ids, skip_special_tokens=True)})
    lines = ",\n".join(json.dumps(entry) for entry in golden)
    (folder / "golden.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(name, len(file["model"]["vocab"]), "tokens", len(text), "characters")


def main():
    lines = (HERE / "wiki.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    lines += (HERE / "languages.txt").read_text(encoding="utf-8").splitlines(keepends=True) * 20

    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    model = train(split, normalizers.NFC(),
                  trainers.BpeTrainer(vocab_size=3456, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                      show_progress=False), lines, models.BPE())
    size = len(model["vocab"])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    names = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True), ("<think>", False),
             ("</think>", False), ("<tool_call>", False)]
    write("byte_level", description(
        model,
        added_tokens=[added(size + i, name, special) for i, (name, special) in enumerate(names)],
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": False}, byte_level]},
        post_processor=byte_level, decoder=byte_level,
    ), {"add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"})

    latin = [line for line in lines if max(line) < "\u0500"]  # The rest falls back to bytes.
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    model = train(pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always"), None,
                  trainers.BpeTrainer(vocab_size=3259, special_tokens=special,
                                      show_progress=False), latin, models.BPE(unk_token="<unk>"))
    write("characters", description(
        {"vocab": model["vocab"], "merges": [" ".join(merge) for merge in model["merges"]]},
        flags={"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
        added_tokens=[added(i, name, True) for i, name in enumerate(special[:3])],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        pre_tokenizer=None,
        post_processor={"type": "TemplateProcessing",
                        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    ), {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
        "eos_token": {"content": "</s>", "special": True}, "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"})


main()
