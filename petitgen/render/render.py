"""The one jinja2 environment, and rendering through it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from petitgen.errors import RenderError
from petitgen.paths import TEMPLATES
from petitgen.render.arrays import array_context
from petitgen.render.resident import resident_context
from petitgen.render.streamed import streamed_context
from petitgen.spec.model import KernelInstance

_CONTEXTS: dict[str, Callable[[Any], object]] = {
    "resident": resident_context,
    "streamed": streamed_context,
    "array": array_context,
}


def render(instance: KernelInstance, templates: Path | None = None) -> str:
    """The HIP source of `instance`: a pure function of the instance and the templates. RenderError on a bad template."""
    environment = _environment(TEMPLATES if templates is None else templates)
    try:
        text = environment.get_template(instance.template).render(k=_CONTEXTS[instance.context](instance))
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"{error.filename or error.name}:{error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, AttributeError) as error:
        raise RenderError(f"{instance.template}: {error} (kernel {instance.name})") from error
    return text.rstrip("\n") + "\n"


@lru_cache
def _environment(templates: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        line_statement_prefix="//%",
        autoescape=False,
    )
