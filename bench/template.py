"""Rendering real chat templates: processor time beside Jinja2's, each with its own compiled template."""
import math
import os
import time

import _common
import _templates

ROUNDS = int(os.environ.get("ROUNDS", "200"))


def jinja_ns(compiled, values, rounds):
    start = time.thread_time_ns()
    for _ in range(rounds):
        compiled.render(**values)
    return (time.thread_time_ns() - start) / rounds


def main():
    report = _common.Report("template")
    environment = _templates.environment()
    compiled, kept = {}, []
    for name, _, source, values in _templates.cases():
        if name not in compiled:
            start = time.thread_time_ns()
            compiled[name] = environment.from_string(source), time.thread_time_ns() - start
        if _templates.reference(compiled[name][0], values)[0] == "output":
            kept.append((name, source, values))
    answers = _templates.run([dict(template=source, values=values, trim_blocks=True, lstrip_blocks=True, rounds=ROUNDS)
                              for _, source, values in kept])
    ours, theirs, logs = 0, 0, []
    for (name, _, values), answer in zip(kept, answers, strict=True):
        beside = jinja_ns(compiled[name][0], values, max(ROUNDS // 10, 5))
        ours, theirs = ours + answer["render_ns"], theirs + beside
        logs.append(math.log(beside / answer["render_ns"]))
    n = len(kept)
    report.add("template_render", ours / n / 1000, "us", "jinja2", theirs / n / 1000, "ratio <= 0.1")
    report.add("template_compile", sum(a["compile_ns"] for a in answers) / n / 1000, "us", "jinja2",
               sum(compiled[name][1] for name, _, _ in kept) / n / 1000)
    print(f"{n} renderings of {len(compiled)} templates; geometric mean of the ratios: "
          f"{math.exp(sum(logs) / n):.1f} x, the least {math.exp(min(logs)):.1f} x")
    report.write(renderings=n, templates=len(compiled), geometric_mean=math.exp(sum(logs) / n))


if __name__ == "__main__":
    main()
