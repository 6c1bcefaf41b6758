"""mkdocs hook: serves mermaid.js from the site itself, so that no page fetches a script from elsewhere.

The theme renders fences of the language `mermaid` with mermaid.js. It loads that from a CDN, unless the page
has loaded it already. The PyPI package `mermaidx` (extra `docs`) carries npm's mermaid 11.16.0 unchanged.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = "assets/javascripts/mermaid.min.js"
SHA256 = "74d7c46dabca328c2294733910a8aa1ed0c37451776e8d5295da38a2b758fb9b"
"""Of dist/mermaid.min.js in npm's mermaid 11.16.0."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the script to the site's files. Raises PluginError when it is missing or another one."""
    package = find_spec("mermaidx")
    if package is None or not package.submodule_search_locations:
        raise PluginError("mermaidx is not installed: run pip install -e '.[docs]'.")
    source = Path(package.submodule_search_locations[0]) / "assets" / "mermaid.js"
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise PluginError(f"{source} is not mermaid 11.16.0: check the version of mermaidx and SHA256 here.")
    files.append(File.generated(config, SCRIPT, content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 -- mkdocs' signature
    """Load the script on pages with a diagram, before the theme's own; wide diagrams scroll (site.css)."""
    if '<pre class="mermaid">' not in output:
        return output
    output = re.sub(
        r'(<pre class="mermaid">.*?</pre>)', r'<div class="diagram">\1</div>', output, flags=re.DOTALL
    )
    tag = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>'
    return output.replace("</head>", f"{tag}</head>", 1)
