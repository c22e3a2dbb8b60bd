"""ram tokenize --chat --render against Jinja 2 as transformers runs it: the same text, or both refuse.

Whole templates in the manner of the model families (tests/data/chat_templates) over conversations, and one construct after
the other. With RAM_SHARED_DATA set, the templates of tokenizers/*/tokenizer_config.json there too.
"""
import json
import os
import subprocess
from pathlib import Path

from harness import DATA, Report, arguments
from transformers.utils.chat_template_utils import _compile_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city, e.g. \"Köln\"", "parameters": {
            "type": "object", "required": ["city"], "properties": {
                "city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "factor": 1.5e-07},
                "unit": {"type": "string", "enum": ["C", "F"]}, "tags": {"type": "array", "items": {"type": "string"}},
                "any": {"type": ["string", "null"]}}}}},
    {"type": "function", "function": {"name": "now", "description": "<the time> & 'more'", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "K\u00f6ln \"\\\n\u2028", "days": 3, "x": [1.0, None, True, {}]}}}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "  Be kind. \n"}, {"role": "user", "content": " Hi\u00e9 \u65e5\u672c \n"}, {"role": "assistant", "content": "Hello!\n"},
     {"role": "user", "content": "<b>&amp; 'x' \"y\" {{ z }} {% if %}"}],
    [{"role": "user", "content": "Think"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone."}, {"role": "user", "content": "Again"},
     {"role": "assistant", "content": "<think>\na\n\nb</think>\nYes", "reasoning_content": None}],
    [{"role": "system", "content": "Tools!"}, {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
     {"role": "tool", "content": "22 C"}, {"role": "assistant", "content": "It is 22 C."}, {"role": "user", "content": "Thanks"}],
    [{"role": "user", "content": "Two"}, {"role": "assistant", "content": "Calling.", "thinking": "hm", "tool_calls": [CALL, CALL]},
     {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
    [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "here"}]},
     {"role": "assistant", "content": "A cat.", "reasoning_content": "whiskers"}],
    [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}],
    [{"role": "user", "content": None}],
    [],
]
SETTINGS = [{}, {"add_generation_prompt": False}, {"enable_thinking": False, "reasoning_effort": "high"}, {"tools": TOOLS}]

# Each with these variables beside messages and tools.
VARIABLES = {
    "s": "  Hello, World!\n", "u": "\u00c4\u00d6\u00dc \u00e9\u00df \u65e5\u672c \U0001f469 x", "i": 7, "f": 2.5, "t": True, "n": None, "l": [3, 1, 2], "e": [],
    "d": {"b": 1, "a": [1, 2], "items": "x", "k\"": "v'"}, "m": [{"a": 1, "b": {"c": "x"}}, {"a": 2}, {"a": 1, "b": {"c": "y"}}],
    "w": ["b", "A", "a", "B", "a"], "q": "it's a \"q\" \\ \t\r\n end",
}
SNIPPETS = [
    # White space.
    "a\n  {% if t %}\n  b\n  {% endif %}\nc\n", "a  {%- if t -%}  b  {%- endif -%}  c", "x\n{# note #}\ny {#- note -#} z\n\n", "{% if t +%}\nx\n  {%+ endif %}\ny",
    "  {{ i }}  \n  {{- i }}\n {{ i -}} \n z", "{% raw %}{{ x }} {% if %}{% endraw %} y", "\n\n{{ i }}\n\n", "{% set x = 1 %}\n{{ x }}\n", "\r\na\r\nb\r{{ i }}\r\n",
    "{%- for x in l -%}\n {{ x }}\n{%- endfor -%}\nend", "{% if t %}a{% endif %}\n{% if t %}b{% endif %}\n", "\t{% if t %}\n\tx\n\t{% endif %}\n",
    "{{ i }}\n{%- if t %} y{% endif %}", "a{{ '\n' }}{%- set z = 1 -%}\n b", "{{ i }} {% if t %}x{% endif %}", "  {# c #}\n  x", "{{ '}}' }}{{ {'a': {'b': 1}}['a'] }}",
    # Values as text.
    "{{ t }} {{ n }} {{ i }} {{ f }} {{ l }} {{ d }} {{ u }} {{ q }} {{ [q, s] }} {{ m }}", "{{ 1.0 }} {{ 1e0 if false else 100000.0 * 1000000000000.0 }} {{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 7 / 7 }}",
    "{{ 0.00001 }} {{ 123456789012345.0 * 1000 }} {{ 0.0001 }} {{ -0.5 }} {{ 3.0 * 2 }}", "{{ (1, 'a') }} {{ (1,) }} {{ () }}", "{{ undefined_name }}|{{ d.nothing }}|{{ d['nothing'] }}|{{ l[9] }}",
    # Operators.
    "{{ 1 + 2 * 3 - 4 // 3 % 2 ** 3 }}", "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}", "{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 2.0 }}", "{{ 'a' + 'b' * 3 }} {{ [1] + [2] * 2 }}", "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}", "{{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ none == false }}",
    "{{ 1 in l }} {{ 9 not in l }} {{ 'lo' in s }} {{ 'b' in d }} {{ 'z' not in d }}", "{{ not t }} {{ not n }} {{ not e and t }} {{ n or 'x' }} {{ t and 'y' }} {{ e or [] or 0 or d }}",
    "{{ 'yes' if t else 'no' }} {{ 'yes' if n }} {{ 'a' if e else 'b' if n else 'c' }}", "{{ -i }} {{ +i }} {{ -f }} {{ - i + 1 }} {{ not not i }}", "{{ 1 - 2 - 3 }} {{ 100 / 10 / 5 }} {{ 'a' ~ 'b' == 'ab' }}",
    "{{ (1 + 2) * 3 }} {{ -2 ** 2 }} {{ i * f }} {{ i + true }}", "{{ 'x' 'y' \"z\" }}", "{{ '\\n\\t\\\\\\'\\x41\\u00e9\\U0001f600\\q' }}", "{{ l == [3, 1, 2] }} {{ d == {'b': 1} }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }}",
    # Items and slices.
    "{{ l[0] }} {{ l[-1] }} {{ s[2] }} {{ u[-4] }} {{ u[0] }} {{ d['a'][1] }} {{ d.a[0] }} {{ m[0].b.c }}", "{{ l[::-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-2:] }} {{ l[2:0:-1] }} {{ l[:] }}",
    "{{ u[::-1] }} {{ u[1:4] }} {{ u[-6:] }} {{ s[3:-2] }} {{ s[100:] }}|{{ u[:-100] }}|{{ u[5:2] }}", "{{ d.items() | list }} {{ d['items'] }} {{ d.keys() | list }} {{ d.values() | list }}", "{{ d.get('b') }} {{ d.get('z') }} {{ d.get('z', 5) }}",
    "{{ m | map(attribute='b.c') | list }}", "{{ l.index(1) }} {{ w.count('a') }}", "{{ (1, 2)[0] }} {{ 'abc'[1] }} {{ [1, [2, 3]][1][0] }}",
    # Blocks.
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ x }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }};{% endfor %}", "{% for x in e %}x{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}/{{ loop.index }}/{{ loop.length }}{% if not loop.last %},{% endif %}{% endfor %}", "{% for x in range(3) %}{% for y in range(x) %}{{ loop.depth }}{{ x }}{{ y }} {% endfor %}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}{% for k in d %}{{ k }}{% endfor %}", "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% set x = 1 %}{% for y in l %}{% set x = y %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=0, y=[]) %}{% for y in l %}{% set ns.x = ns.x + y %}{% set ns.y = ns.y + [y] %}{% endfor %}{{ ns.x }} {{ ns.y }}",
    "{% if n %}a{% elif e %}b{% elif i == 7 %}c{% else %}d{% endif %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = (1, 2) %}{{ c }}", "{% set x %}<{{ i }}>{% endset %}{{ x }}{{ x | length }}", "{% if t %}{% set z = 5 %}{% endif %}{{ z }}",
    "{% macro f(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(c='q', a=9) }}{{ f() }}", "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}",
    "{% macro f() -%}\n  a {{ i }}\n{%- endmacro %}{{ f() | upper }}|{{ f() ~ f() }}", "{% set g = 1 %}{% macro f() %}{{ g }}{% set g = 5 %}{{ g }}{% endmacro %}{% set g = 2 %}{{ f() }}{{ g }}", "{% generation %}x{{ i }}{% endgeneration %}y",
    "{% for x in l %}{% for y in w %}{% if y == 'A' %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %}{% endfor %}", "{% set x = namespace() %}{% set x.a = 1 %}{{ x.a }}{{ x.b is defined }}", "{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{{ i }}", "{{ range(3) | list }}{{ dict(a=1, b=n) }}",
    # Tests.
    "{{ i is defined }} {{ zz is defined }} {{ zz is undefined }} {{ zz is not defined }} {{ d.zz is defined }}", "{{ n is none }} {{ i is not none }} {{ s is string }} {{ i is string }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ i is iterable }} {{ s is iterable }}",
    "{{ l is sequence }} {{ d is sequence }} {{ s is sequence }} {{ i is number }} {{ f is number }} {{ s is number }} {{ t is number }}", "{{ t is true }} {{ t is false }} {{ i is true }} {{ t is boolean }} {{ i is integer }} {{ f is float }} {{ i is float }}", "{{ i is odd }} {{ i is even }} {{ i is divisibleby 7 }} {{ i is divisibleby(2) }}",
    "{{ i is eq 7 }} {{ i is equalto(8) }} {{ i is ne 7 }} {{ i is gt 3 }} {{ i is le 7 }} {{ 1 is in l }} {{ 'x' is in ['x'] }} {{ i is sameas 7 }}", "{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'aBc' is lower }}", "{{ s is string and i is defined or n }}", "{{ range is callable }} {{ i is callable }}", "{{ not zz is defined }} {{ 'x' if s is string else 'y' }}",
    # Methods of texts.
    "{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcab'.lstrip('ab') }}|{{ 'abc\\n\\n'.rstrip('\\n') }}", "{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split(',') }}",
    "{{ s.startswith('  H') }} {{ s.endswith('\\n') }} {{ s.startswith(('x', '  ')) }}", "{{ u.upper() }} {{ u.lower() }} {{ 'hello wORLD it\\'s'.title() }} {{ 'hELLO w'.capitalize() }}", "{{ 'aXbX'.replace('X', '-') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }}", "{{ s.find('o') }} {{ s.find('zz') }} {{ u.find('x') }} {{ s.rfind('o') }} {{ s.count('l') }}",
    "{{ ', '.join(w) }} {{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'a\\nb'.splitlines(true) }}", "{{ '12'.isdigit() }} {{ 'a1'.isalpha() }} {{ ' '.isspace() }} {{ ''.isdigit() }} {{ 'Ab'.isupper() }} {{ 'ab'.islower() }} {{ 'a1'.isalnum() }}", "{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removesuffix('x') }}",
    # Filters.
    "{{ s | trim }}|{{ 'xax' | trim('x') }}|{{ 5 | trim }}", "{{ s | length }} {{ u | length }} {{ l | length }} {{ d | count }} {{ zz | length }}", "{{ w | join }} {{ w | join(', ') }} {{ l | join('-') }} {{ m | join(',', attribute='a') }} {{ zz | join(',') }}", "{{ s | upper }} {{ u | lower }} {{ 'hello wORLD it\\'s (x) a-b' | title }} {{ 'hELLO' | capitalize }}",
    "{{ zz | default('x') }} {{ n | default('x') }} {{ n | default('x', true) }} {{ '' | d('y', boolean=true) }} {{ zz | default }}|", "{{ 'aXbX' | replace('X', '-') }} {{ 'aaa' | replace('a', 'b', 1) }}", "{{ 'abc' | list }} {{ d | list }} {{ range(2) | list }}", "{{ '12' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ ' 42 ' | int }} {{ '3.7' | int }} {{ true | int }} {{ '2.5' | float }} {{ 'x' | float }}",
    "{{ l | first }} {{ l | last }} {{ 'abc' | first }} {{ 'abc' | last }} {{ e | first }}|", "{{ d | items | list }}", "{{ 5 | string + 'x' }} {{ none | string }} {{ '<&\"\\'>' | e }} {{ '<b>' | safe }} {{ '<b>' | escape }}", "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(2, blank=true) }}|{{ 'a\\nb' | indent('> ') }}",
    "{{ w | unique | list }} {{ [1, 2, 1] | unique | list }}", "{{ l | sort }} {{ l | sort(reverse=true) }} {{ w | sort }} {{ w | sort(case_sensitive=true) }} {{ m | sort(attribute='a') | map(attribute='a') | list }}", "{{ d | dictsort | map(attribute='0') | list }}", "{{ m | map(attribute='a') | join(',') }} {{ w | map('upper') | list }} {{ m | map(attribute='b', default='-') | list }} {{ w | map('replace', 'a', 'z') | list }}",
    "{{ [0, 1, none, 'x'] | select | list }} {{ l | select('gt', 1) | list }} {{ l | reject('odd') | list }} {{ w | select('equalto', 'a') | list }} {{ [1, 'a'] | select('string') | list }}", "{{ m | selectattr('b') | list }} {{ m | selectattr('a', 'equalto', 1) | map(attribute='a') | list }} {{ m | rejectattr('a', 'in', [2]) | list | length }} {{ m | selectattr('b', 'defined') | list | length }}",
    "{{ -3 | abs }} {{ 2.567 | round(1) }} {{ 2.5 | round }} {{ l | sum }} {{ l | min }} {{ l | max }} {{ l | reverse | list }} {{ 'abc' | reverse }}",
    "{{ d | tojson }} {{ q | tojson }} {{ u | tojson }} {{ f | tojson }} {{ [1.0, 1e3, true, none, []] | tojson }} {{ {} | tojson }}", "{{ d | tojson(indent=2) }} {{ [] | tojson(indent=2) }} {{ m | tojson(indent=4) }}", "{{ u | tojson(ensure_ascii=true) }} {{ d | tojson(sort_keys=true) }} {{ d | tojson(separators=(',', ':')) }}", "{{ '\\x00\\x1f\\x7f\\u2028' | tojson }}",
    "{{ s | trim | upper | length }} {{ (i + 1) | string | length }} {{ -i | abs }} {{ i | string ~ 'x' }}", "{{ (m | first).a }} {{ (l | sort)[0] }} {{ messages | length }} {{ tools is none }}", "{{ 'a' in d and 'x' not in d.items }}", "{{ [x for x in l] }}",
    # Refused by both.
    "{{ zz.x }}", "{{ zz + 1 }}", "{{ zz() }}", "{{ n.x.y }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ [] < 1 }}", "{{ raise_exception('no') }}", "{% if %}", "{% for %}", "{{ }}", "{{ 1 +", "{% endif %}", "{{ 'a }}", "{{ x | nofilter }}", "{{ x is notest }}", "{% foo %}", "{{ l | map(attribute='a.b') | list }}", "{{ i() }}",
    "{% for a, b in l %}{% endfor %}", "{{ (1, 2 }}", "{# open", "{% set 1 = 2 %}", "{{ range(1000000) | list | length }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{{ namespace | tojson }}", "{{ zz | tojson }}", "{% set d.x = 1 %}", "{% break %}", "{{ ''.index('x') }}",
]
# What ram refuses although Jinja renders it, in one sentence that says so.
UNSUPPORTED = ["{% include 'x' %}", "{% call f() %}{% endcall %}", "{{ '%s' % 'x' }}", "{% filter upper %}x{% endfilter %}", "{{ {1: 2} }}", "{{ w | groupby('a') }}", "{{ 9223372036854775807 + 1 }}",
               "{% for x in l recursive %}{% endfor %}", "{{ s.encode('utf-8') }}"]


def theirs(template, values):
    try:
        return _compile_jinja_template(template).render(**values)
    except Exception as error:
        return error


class Ours:
    def __init__(self, args):
        self.ram, self.folder = args.ram, args.scratch / "model"
        self.folder.mkdir()
        (self.folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL))

    def render(self, template, values, folder=None):
        if folder is None:
            (self.folder / "chat_template.jinja").write_bytes(template.encode())
        chat = json.dumps(values, ensure_ascii=False)
        done = subprocess.run([self.ram, "tokenize", folder or self.folder, "--chat", "-", "--render"], input=chat.encode(), capture_output=True)
        if done.returncode == 0:
            return done.stdout.decode()
        assert done.returncode == 1, (done.returncode, done.stderr)
        return RuntimeError(done.stderr.decode().strip())


def check(report, name, expected, found):
    refused = isinstance(expected, Exception), isinstance(found, Exception)
    same = all(refused) if any(refused) else expected == found
    if not same:
        print(f"{name}\n  theirs {expected!r}\n  ours   {found!r}")
    if refused[1]:
        report.check("line " in str(found) and "column " in str(found), f"{name}: the error has no place: {found}")
    report.check(same, name)


def main():
    args, report = arguments(), Report()
    ours = Ours(args)
    templates = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DATA / "chat_templates").glob("*.jinja"))}
    rendered = 0
    for name, template in templates.items():
        for number, messages in enumerate(CONVERSATIONS):
            for settings in SETTINGS:
                values = {"messages": messages, "add_generation_prompt": True} | settings
                expected = theirs(template, {"tools": None, "documents": None} | SPECIAL | values)
                check(report, f"{name} {number} {list(settings)}", expected, ours.render(template, values))
                rendered += not isinstance(expected, Exception)
    report.check(rendered > 150, f"only {rendered} conversations are rendered at all")
    for snippet in SNIPPETS:
        values = {"messages": CONVERSATIONS[1]} | VARIABLES
        expected = theirs(snippet, {"tools": None, "documents": None, "add_generation_prompt": True} | SPECIAL | values)
        check(report, snippet, expected, ours.render(snippet, values))
    for snippet in UNSUPPORTED:
        found = ours.render(snippet, {"messages": []} | VARIABLES)
        report.check(isinstance(found, Exception) and "line 1, column" in str(found), f"{snippet}: {found}")

    shared = Path(os.environ.get("RAM_SHARED_DATA", "/nonexistent"))
    for config in sorted(shared.glob("tokenizers/*/tokenizer_config.json")):
        text = json.loads(config.read_text(encoding="utf-8"))
        if "chat_template" not in text:
            continue
        special = {key: text[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token") if isinstance(text.get(key), str)}
        for number, messages in enumerate(CONVERSATIONS):
            for settings in SETTINGS:
                values = {"messages": messages, "add_generation_prompt": True} | settings
                expected = theirs(text["chat_template"], {"tools": None, "documents": None} | special | values)
                check(report, f"{config.parent.name} {number} {list(settings)}", expected, ours.render(None, values, config.parent))
    report.finish()


main()
