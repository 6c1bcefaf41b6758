"""Downloads: results as a stream, and generated files. A browser never shows them as a page."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import Response, StreamingResponse

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import JobStatus
from askmill.jobs.options.results import result_options
from askmill.jobs.results.collect import default_out, plan_collect
from askmill.jobs.results.export import stream_results
from askmill.jobs.results.generated_files import safe_name
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
IMAGE_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
"""By first bytes. Anything else, SVG included, is downloaded as bytes."""


def image_type(content: bytes) -> str | None:
    """Return the media type of a picture that a browser may show; None for anything else."""
    # RIFF holds sound and video too; the kind is behind the length.
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for head, kind in IMAGE_TYPES.items() if content.startswith(head)), None)


async def results(
    store: Store, batch: Batch, options: Mapping[str, Any], statuses: Collection[JobStatus] | None
) -> Response:
    """The results of a batch, or its rows with these statuses. Raises UsageError for a wrong column."""
    chosen = result_options(options)
    plan = await plan_collect(store, batch, "-", chosen, statuses)
    name = Path(default_out(batch.file, statuses)).with_suffix(f".{options['form']}").name
    return StreamingResponse(
        stream_results(store.result_chunks(batch.id, statuses), plan),
        media_type=MEDIA_TYPES[options["form"]],
        headers={"Content-Disposition": attachment(name)},
    )


async def generated_file(store: Store, batch: Batch, row: int, number: int) -> Response:
    """A file that a run of the row generated. Raises NotFound."""
    result = (await store.row(batch.id, row)).view.stored or {}
    record = next((file for file in result.get("files", ()) if file.get("number") == number), None)
    content = await store.read_file(batch.id, row, number) if record is not None else None
    if record is None or content is None:
        raise NotFound(f"no file {number} of row {row} of batch {batch.id} is stored")
    media_type = image_type(content)
    name = safe_name(str(record.get("name", "")))
    disposition = attachment(name) if media_type is None else attachment(name).replace("attachment", "inline")
    headers = {"Content-Disposition": disposition, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(content, media_type=media_type or "application/octet-stream", headers=headers)


def attachment(name: str) -> str:
    """Return the header that names a download (RFC 6266)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
