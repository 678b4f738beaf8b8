#!/usr/bin/env python3
"""Renders cases.py and conversations.py with jinja2, for src/text/jinja_vectors_test.cc.

Writes vectors.tar.xz, which CMake unpacks, with vectors.json: {context, cases: [{template, text}]},
and conversations.json: {contexts, rendered: {TEMPLATE: [{text}]}} with the templates of templates/.

The environment is the one of transformers' apply_chat_template (utils/chat_template_utils.py):
ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, the generation tag, and
its own tojson. Needs python3-jinja2 3.1. A case that fails there has "error": true instead of
"text".
"""
import datetime
import io
import json
import pathlib
import tarfile

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import cases
import conversations


class GenerationTag(Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


# What strftime_now formats; src/text/jinja_vectors_test.cc has the same moment.
NOW = datetime.datetime(2026, 1, 2, 12)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[GenerationTag, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, template, context):
    try:
        return {"text": env.from_string(template).render(**context)}
    except Exception:
        return {"error": True}


def array(values):
    return "[\n" + ",\n".join(json.dumps(value) for value in values) + "]"


def main():
    env = environment()
    here = pathlib.Path(__file__).parent
    vectors = [{"template": template, **render(env, template, cases.CONTEXT)}
               for template in cases.ALL]
    context = json.dumps(cases.CONTEXT)
    files = {"vectors.json": f'{{"context": {context},\n"cases": {array(vectors)}}}\n'}

    rendered = []
    for path in sorted((here / "templates").glob("*.jinja")):
        texts = [render(env, path.read_text(), context) for context in conversations.ALL]
        rendered.append(f'"{path.name}": {array(texts)}')
    files["conversations.json"] = (
        f'{{"contexts": {array(conversations.ALL)},\n"rendered": {{{", ".join(rendered)}}}}}\n')
    with tarfile.open(here / "vectors.tar.xz", "w:xz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


if __name__ == "__main__":
    main()
