"""ram tokenize against the official tokenizers package: every pipeline of the model families over two small
vocabularies, on text, many languages and strings made to find mistakes; the same ids and the same text back.

With RAM_SHARED_DATA set to a folder that has tokenizers/*/tokenizer.json and wikitext-2/wiki.test.raw, those too.
"""
import copy
import json
import os
import random
import re
import unicodedata
from pathlib import Path

from harness import DATA, ROOT, Report, arguments, run
from tokenizers import Tokenizer

FIXTURES = DATA / "tokenizers"
NUM_TORTURE = 6000

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
L3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD, OTHERS = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (LEAD + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + LEAD + UPPER + "+" + LOWER + "*" + CONTRACTIONS +
         r"?|\p{N}{1,3}" + OTHERS)
TEKKEN = LEAD + UPPER + "*" + LOWER + "+|" + LEAD + UPPER + "+" + LOWER + r"*|\p{N}" + OTHERS
DEEPSEEK = ["\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
# A pattern that no family has: run by PCRE2, which may know fewer code points than the package.
ODD = r"\w+|[^\w\s]{1,4}|\s(?=\S)|[^\S\r\n]+|\s"


def byte_level(space=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False):
    kind = pattern if isinstance(pattern, dict) else {"Regex": pattern}
    return {"type": "Split", "pattern": kind, "behavior": behavior, "invert": invert}


def cut(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def added(id, content, special=False, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special} | flags


def template(before=(), after=()):
    names = {name: id for name, id in (*before, *after)}
    token = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [*(token(name) for name, _ in before), {"Sequence": {"id": "A", "type_id": 0}},
                       *(token(name) for name, _ in after)],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in names.items()}}


def pipelines():
    """(name, tokenizer.json as an object): the families, and what other files may have."""
    base = json.loads((FIXTURES / "byte_level" / "tokenizer.json").read_text(encoding="utf-8"))
    characters = json.loads((FIXTURES / "characters" / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(base["model"]["vocab"])
    bos = [("<|endoftext|>", size)]

    def of(source, flags=None, **parts):
        file = copy.deepcopy(source) | parts
        file["model"] |= flags or {}
        return file

    def bytes_of(*patterns, **more):
        return of(base, pre_tokenizer=cut(*(split(p) for p in patterns), byte_level()),
                  decoder=byte_level(True, True), **more)

    whole, space = {"ignore_merges": True}, "\u2581"
    metaspace = lambda scheme, splits: {"type": "Metaspace", "replacement": space, "prepend_scheme": scheme, "split": splits}
    yield "gpt2", of(base, normalizer=None, pre_tokenizer=byte_level(False, True))
    yield "gpt2 with a space", of(base, normalizer=None, pre_tokenizer=byte_level(True, True))
    yield "qwen3", base
    yield "qwen3.5", bytes_of(QWEN35)
    yield "llama3", bytes_of(L3, normalizer=None, flags=whole,
                             post_processor={"type": "Sequence", "processors": [byte_level(), template(bos)]})
    yield "llama4", bytes_of(O200K, normalizer=None, flags=whole, post_processor=template(bos))
    yield "tekken", bytes_of(TEKKEN, normalizer=None, flags=whole, post_processor=template(bos))
    yield "deepseek", bytes_of(*DEEPSEEK, normalizer={"type": "Sequence", "normalizers": []}, post_processor=template(bos))
    yield "added tokens", bytes_of(L3, added_tokens=[
        added(size, "<|endoftext|>", True), added(size + 1, "<l>", lstrip=True), added(size + 2, "<r>", rstrip=True),
        added(size + 3, "<sw>", single_word=True), added(size + 4, "caf\u00e9", normalized=True),
        added(size + 5, "<lr>", lstrip=True, rstrip=True), added(size + 6, "<|im"), added(size + 7, "\n\n"),
        added(size + 8, "<|im_start|>", True, normalized=True)])
    yield "lower case", bytes_of(L3, normalizer={"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}]},
        added_tokens=[added(size, "<|IM_START|>", normalized=True)])
    yield "no accents", bytes_of(L3, normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]})
    yield "NFKD", bytes_of(L3, normalizer={"type": "NFKD"})
    yield "replace", bytes_of(L3, normalizer={"type": "Replace", "pattern": {"Regex": r" {2,}|\n"}, "content": "_"})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield behavior, of(base, pre_tokenizer=cut(split({"String": " "}, behavior), byte_level()))
        yield behavior + " regex", of(base, pre_tokenizer=cut(split(r"[aeiou]", behavior, True), byte_level()))
    yield "digits", of(base, pre_tokenizer=cut({"type": "Digits", "individual_digits": True}, byte_level(False, True)))
    yield "digit runs", of(base, pre_tokenizer=cut({"type": "Digits", "individual_digits": False}, byte_level()))
    yield "punctuation", of(base, pre_tokenizer=cut({"type": "Punctuation", "behavior": "MergedWithPrevious"},
                                                    {"type": "WhitespaceSplit"}, byte_level()))
    yield "words", of(base, pre_tokenizer=cut({"type": "Whitespace"}, byte_level()))
    yield "odd", bytes_of(ODD, normalizer=None)

    yield "mixtral", characters
    yield "llama2 new", of(characters, normalizer=None, pre_tokenizer=metaspace("first", False))
    yield "metaspace", of(characters, normalizer=None, pre_tokenizer=metaspace("always", True), decoder=metaspace("always", True))
    yield "metaspace never", of(characters, normalizer=None, pre_tokenizer=metaspace("never", True),
                                decoder=metaspace("never", True))
    yield "gemma3", of(characters, normalizer={"type": "Replace", "pattern": {"String": " "}, "content": space},
                       pre_tokenizer=split({"String": " "}, "MergedWithPrevious"),
                       decoder={"type": "Sequence", "decoders": characters["decoder"]["decoders"][:3]},
                       added_tokens=[*characters["added_tokens"], added(3259, "\n\n"), added(3260, "\u2581\u2581")])
    yield "phi3", of(characters, added_tokens=[
        *characters["added_tokens"], added(3259, "<|user|>", True, rstrip=True), added(3260, "<|end|>", True, rstrip=True)],
        post_processor=template([("<s>", 1)], [("</s>", 2)]))
    yield "roberta", of(characters, post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1],
                                                    "trim_offsets": True, "add_prefix_space": False})
    yield "bert", of(characters, post_processor={"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]})
    yield "unknowns", of(characters, flags={"byte_fallback": False})
    yield "each unknown", of(characters, flags={"byte_fallback": False, "fuse_unk": False})
    yield "nothing unknown", of(characters, flags={"byte_fallback": False, "unk_token": None})
    yield "no decoder", of(characters, decoder=None)
    yield "plain merges", of(characters, normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"}, post_processor=None)


def torture(number):
    """Random strings of white space, contractions, digits, added tokens, and characters of all planes."""
    draw = random.Random(42)
    spaces = [" ", "  ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u180e", "\u200b", "\u2028", "\u0085", "\x0b",
              "\x1c", "\ufeff", "\u200d"]
    endings = ["'s", "'S", "'T", "'re", "'RE", "'ll", "'Ll", "'d", "'m", "'ve", "'\u017f", "'x", "\u2019s", "s's"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|IM_START|>", "<think>", "</think>", "<|im", "<l>", "<r>", "<sw>", "a<sw>b",
              " <l> ", "<r>  ", "  <lr>  ", "<r>\n\n", "cafe\u0301", "caf\u00e9", "<s>", "</s>", "<unk>", "<|user|> ", "<0x41>",
              "\u2581", "\u2581\u2581"]
    blocks = [(0x20, 0x7f), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xe00), (0x1100, 0x1200), (0x2000, 0x2100),
              (0x3040, 0x3100), (0x4e00, 0x9fff), (0xac00, 0xd7a4), (0xf900, 0x10000), (0x10000, 0x20000), (0x1f300, 0x1fb00),
              (0, 0x110000)]

    def character():
        while True:
            c = draw.randrange(*draw.choice(blocks))
            if not 0xd800 <= c < 0xe000:
                return chr(c)

    for _ in range(number):
        text = ""
        for _ in range(draw.randrange(1, 14)):
            kind = draw.random()
            if kind < .18:
                text += draw.choice(spaces)
            elif kind < .28:
                text += draw.choice(endings)
            elif kind < .36:
                text += draw.choice(tokens)
            elif kind < .46:
                text += "".join(draw.choice("0123456789\u0663\u096b\u2167\u00bd") for _ in range(draw.randrange(1, 8)))
            elif kind < .66:
                text += "".join(draw.choice("abcXYZ theing") for _ in range(draw.randrange(1, 8)))
            else:
                text += "".join(character() for _ in range(draw.randrange(1, 4)))
        yield text


def compositions():
    """Every character that has a decomposition, taken apart in both ways, and marks in any order."""
    draw = random.Random(7)
    marks = [chr(c) for c in range(0x20000) if unicodedata.combining(chr(c))]
    for c in range(0x30000):
        if 0xd800 <= c < 0xe000 or not unicodedata.decomposition(chr(c)) and not 0xac00 <= c < 0xac80:
            continue
        if 0xf900 <= c and draw.random() < .8:
            continue
        apart = unicodedata.normalize("NFD", chr(c))
        yield chr(c)
        yield apart + draw.choice(marks)
        yield "x" + "".join(draw.sample(apart, len(apart))) + draw.choice(marks) + "y"


def newer_code_points():
    """Those that Unicode 15 and later added: PCRE2 10.42 and utf8proc 2.8 do not know (all of) them."""
    ranges = [(0xcf3, 0xcf3), (0xece, 0xece), (0x10efd, 0x10eff), (0x1123f, 0x11241), (0x11b00, 0x11b09),
              (0x11f00, 0x11f10), (0x11f12, 0x11f3a), (0x11f3e, 0x11f59), (0x1342f, 0x1342f), (0x13439, 0x13455),
              (0x1b132, 0x1b132), (0x1b155, 0x1b155), (0x1d2c0, 0x1d2d3), (0x1df25, 0x1df2a), (0x1e030, 0x1e06d),
              (0x1e08f, 0x1e08f), (0x1e4d0, 0x1e4f9), (0x1f6dc, 0x1f6dc), (0x1f774, 0x1f776), (0x1f77b, 0x1f77f),
              (0x1f7d9, 0x1f7d9), (0x1fa75, 0x1fa77), (0x1fa87, 0x1fa88), (0x1faad, 0x1faaf), (0x1fabb, 0x1fabd),
              (0x1fabf, 0x1fabf), (0x1face, 0x1facf), (0x1fada, 0x1fadb), (0x1fae8, 0x1fae8), (0x1faf7, 0x1faf8),
              (0x2b739, 0x2b739), (0x31350, 0x323af)]
    ranges += [(0x16ea0, 0x16ed3)]  # Letters with case of Unicode 17, for "lower case".
    table = (ROOT / "ram" / "text" / "unicode_newer.inc").read_text()
    ranges += [(int(a, 16), int(b, 16)) for a, b in re.findall(r"\{0x([0-9A-F]+), 0x([0-9A-F]+),", table)]
    return {c for first, last in ranges for c in range(first, last + 1)}


def lines_of(ram, folder, texts, scratch, *options):
    source = scratch / "input.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    return [json.loads(line) for line in run(ram, "tokenize", folder, source, "--jsonl", *options).split("\n")[:-1]]


def compare(args, report, name, folder, texts, newer=frozenset()):
    oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
    oracle.no_truncation()
    oracle.no_padding()
    theirs = [encoding.ids for encoding in oracle.encode_batch(texts)]
    ours = lines_of(args.ram, folder, texts, args.scratch)
    differing = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    unexplained = [i for i in differing if newer.isdisjoint(map(ord, texts[i]))]
    for i in unexplained[:3]:
        print(name, json.dumps(texts[i]), "\n  ours  ", ours[i], "\n  theirs", theirs[i])
    report.check(len(ours) == len(texts) and not unexplained, f"{name}: {len(unexplained)} of {len(texts)} texts differ")
    report.check(newer or not differing, f"{name}: {len(differing)} differ")

    for flags, skip in ((), False), (("--no-special",), True):
        decoded = oracle.decode_batch(theirs, skip_special_tokens=skip)
        back = lines_of(args.ram, folder, theirs, args.scratch, "--decode", *flags)
        wrong = [i for i, (a, b) in enumerate(zip(back, decoded)) if a != b]
        for i in wrong[:3]:
            print(name, "decoding", theirs[i], "\n  ours  ", json.dumps(back[i]), "\n  theirs", json.dumps(decoded[i]))
        report.check(len(back) == len(texts) and not wrong, f"{name}: {len(wrong)} of {len(texts)} decode differently")
    return len(differing)


def main():
    args, report = arguments(), Report()
    wiki = (FIXTURES / "wiki.txt").read_text(encoding="utf-8")
    languages = (FIXTURES / "languages.txt").read_text(encoding="utf-8")
    draw = random.Random(3)
    texts = ["", wiki, languages, languages.lower(), "a" * 3000, "\u3042" * 500, " " * 200, "\n" * 100 + "x"]
    texts += languages.splitlines() + wiki.splitlines(keepends=True)
    texts += list(torture(NUM_TORTURE)) + list(compositions())
    newer = newer_code_points()
    total = 0
    for name, file in pipelines():
        folder = args.scratch / name.replace(" ", "_")
        folder.mkdir()
        (folder / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
        differ = compare(args, report, name, folder, texts, newer if name in ("odd", "lower case") else frozenset())
        total += len(texts)
        if differ:
            print(f"{name}: {differ} texts with code points newer than Unicode 14 differ")
    print(f"{total} texts encoded and decoded")

    shared = Path(os.environ.get("RAM_SHARED_DATA", "/nonexistent"))
    if shared.is_dir():
        wiki = (shared / "wikitext-2" / "wiki.test.raw").read_text(encoding="utf-8")
        for folder in sorted({path.parent for path in shared.glob("**/tokenizer.json")}):
            differ = compare(args, report, folder.name, folder, [wiki, *texts], frozenset())
            print(f"{folder.relative_to(shared)}: {len(texts) + 1} texts, {differ} differ")
    report.finish()


main()
