"""Templates against Jinja2: the same text from real chat templates, and from small ones for each feature."""
import os
import pathlib
import sys

import jinja2
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import _templates  # noqa: E402

PROGRAM = os.environ.get("CAPSTAN_TEMPLATE_RUN",
                         str(pathlib.Path(os.environ.get("CAPSTAN_BINARY", str(_templates.ROOT / "build/capstan")))
                             .parent / "bench/template_run"))


def compare(cases):
    """What differs between ours and Jinja2's: [(name, ours, theirs)]. An error must be one on both sides."""
    environment = _templates.environment()
    answers = _templates.run([dict(template=source, values=values, trim_blocks=True, lstrip_blocks=True)
                              for _, source, values in cases], PROGRAM)
    wrong, rendered, compiled = [], 0, {}
    for (name, source, values), ours in zip(cases, answers, strict=True):
        try:
            if source not in compiled:
                compiled[source] = environment.from_string(source)
            kind, theirs = _templates.reference(compiled[source], values)
        except jinja2.TemplateSyntaxError as error:
            kind, theirs = "error", str(error)
        rendered += kind == "output"
        if kind not in ours or (kind == "output" and ours["output"] != theirs):
            wrong.append((name, ours.get("output", ours.get("error")), theirs))
    return wrong, rendered


# Where ours renders and Jinja2 refuses: its map is a generator, which json.dumps cannot write; ours is a list.
RENDERED_BY_US_ALONE = {"llama-cpp-deepseek-r1": "generator is not JSON serializable"}


def test_real_chat_templates():
    cases = [(f"{name} / {key}", source, values) for name, key, source, values in _templates.cases()]
    wrong, rendered = compare(cases)
    assert rendered > len(cases) * 3 // 4  # the others raise an exception of their own on both sides
    wrong = [(name, ours, theirs) for name, ours, theirs in wrong
             if RENDERED_BY_US_ALONE.get(name.split(" / ")[0], "\0") not in theirs]
    assert not wrong, f"{len(wrong)} of {len(cases)} differ, the first: {wrong[0]}"


SMALL = [
    "{{ [1, 2.0, 'a', none, true, {'k': (1,)}, \"it's\"] }} {{ 1e16 }} {{ 1.5e-7 }} {{ 0.1 + 0.2 }} {{ 7 // -2 }} {{ -7 % 3 }}",
    "{{ 2 ** 10 }} {{ 7 / 2 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }} {{ 1 < 2 < 3 }} {{ 'a' ~ 1 ~ none }} {{ not 1 == 2 }}",
    "{{ s.upper() }} {{ s.title() }} {{ s | title }} {{ s | capitalize }} {{ s.split() }} {{ s.split('o') }} {{ s.split(' ', 1) }}",
    "{{ s.strip('tx') }}|{{ s.rsplit(' ', 1) }}|{{ s.find('q') }}|{{ s.replace('o', '0', 1) }}|{{ s.splitlines() }}|{{ s.startswith(('a', 'T')) }}",
    "{{ s[::-1] }} {{ s[2:-2] }} {{ s[-3:] }} {{ l[1:] }} {{ l[::2] }} {{ l[-1] }} {{ l[9] is defined }} {{ s | reverse }}",
    "{{ d | dictsort }} {{ d | dictsort(by='value', reverse=true) }} {{ d.items() | list }} {{ d.keys() | list }} {{ d | length }}",
    "{{ u | map(attribute='n') | list }} {{ u | selectattr('n', '>', 1) | map(attribute='k') | join(', ') }} {{ u | sum('n') }}",
    "{{ u | rejectattr('x') | list | length }} {{ l | select('odd') | list }} {{ l | map('string') | join('-') }} {{ u | sort(attribute='k') | map(attribute='k') | list }}",
    "{{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A', 'a'] | unique | list }} {{ l | min }} {{ l | max }} {{ l | batch(2, '-') | list }} {{ l | first }}{{ l | last }}",
    "{{ 'x\ny\n\nz' | indent }} {{ 'x\ny' | indent(2, true) }} {{ 'a b c d e f' | truncate(7, leeway=0) }} {{ 'a b c' | wordcount }} {{ 'a/b c&d' | urlencode }}",
    "{{ '3' | int + 1 }} {{ 'x' | int(7) }} {{ '2.5' | float }} {{ 2.5 | round }} {{ 2.567 | round(1) }} {{ 2.1 | round(0, 'ceil') }} {{ -3 | abs }}",
    "{{ g | default('d') }} {{ '' | default('e', true) }} {{ none | default('f') }} {{ '<a>' | e }} {{ '%s-%d' | format('x', 3) }} {{ '%05.2f' % 3.14159 }}",
    "{% for k, v in d.items() %}{{ loop.index }}/{{ loop.length }} {{ k }}={{ v }}{{ ', ' if not loop.last }}{% endfor %} {% for x in [] %}{% else %}empty{% endfor %}",
    "{% for x in l %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}",
    "{% macro f(a, b=a, c='z') %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }} {{ f(1, 2, 3, 4, k=5) }} {{ f(c=1, a=2) }}",
    "{% macro f() %}{{ y }}{% endmacro %}{% set y = 5 %}{{ f() }}{% for y in [1] %}{{ f() }}{% endfor %}{% with y = 7, z = y %}{{ y }}{{ z }}{% endwith %}",
    "{% set a, b = 1, (2, 3) %}{{ a }}{{ b }} {% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "  {% if true %}\n  a\n  {%- endif %}\n\n  {# c #}\n  {%+ if true %} b {% endif +%}\n{{- ' c ' -}}\n d\n",
    "{{ 'a' if g }}|{{ g is defined }}|{{ s is string }}|{{ l is iterable and l is not mapping }}|{{ 3 is odd }}|{{ 2 in l }}|{{ 'k' in d }}|{{ none is none }}",
    "{{ d | tojson }} {{ d | tojson(indent=2) }} {{ s | tojson }} {{ [] | tojson(indent=1) }} {{ 'ü' | tojson(ensure_ascii=true) }} {{ 1.0 | tojson }}",
    "{{ d.get('a') }} {{ d.get('zz') }} {{ d.get('zz', 4) }} {{ d['a'] }} {{ d.items is callable }} {{ dict(a=1, b=2) }} {{ range(5, 0, -2) | list }}",
    "{{ '{} {1}'.format(1, 2) if false else '{}-{}'.format(1, 'b') }} {{ 'a\\n\\u00e9\\x41' }} {{ \"q'q\" }} {{ 'x' 'y' }}",
    "{{ g.x }}", "{{ 1 + 'a' }}", "{{ none.x.y }}", "{{ 'x' | nothing }}", "{% for x in 5 %}{% endfor %}", "{{ f( }}", "{% if %}", "{{ 1 }",
]


def test_features():
    values = {"s": "The quick  fox", "l": [1, 2, 3, 4], "d": {"b": 2, "a": 1, "C": 3},
              "u": [{"k": "z", "n": 1}, {"k": "Y", "n": 2}, {"k": "x", "n": 3, "x": True}]}
    wrong, _ = compare([(source, source, values) for source in SMALL])
    assert not wrong, "\n".join(f"{source}\n  ours   {ours!r}\n  theirs {theirs!r}" for source, ours, theirs in wrong)
